"""recipes/photographs.flags beside plain Keras: `python benchmarks/photographs_from_scratch.py`.

250 real photographs of ImageNet, one of every fourth class, in two groups: animals and the rest. Four fifths of each group
train, drawn by the seed; the others measure. Convoy runs the recipe. Keras reads the same folder with
image_dataset_from_directory, augments by its own layers, and fits the same network with Adam for as many seconds as Convoy
trained. `fit` beside it also has the recipe's optimizer. One side after the other, each in a process of its own. Writes
results/photographs_from_scratch.csv.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import DATA, HERE, describe, write

PHOTOGRAPHS = DATA.parent / "imagenet-sample"
ANIMALS = ("n01", "n02")  # WordNet's numbers of ImageNet's animals begin so
SIZE, BATCH = 48, 32


def photographs(folder: Path, seed: int) -> None:
    """Links: train/ and test/ with a folder a class."""
    draw = random.Random(seed)
    groups: dict[str, list[Path]] = {"animal": [], "other": []}
    for path in sorted(PHOTOGRAPHS.glob("*.JPEG")):
        groups["animal" if path.name.startswith(ANIMALS) else "other"].append(path)
    for name, paths in groups.items():
        draw.shuffle(paths)
        border = len(paths) * 4 // 5
        for split, chosen in (("train", paths[:border]), ("test", paths[border:])):
            place = folder / split / name
            place.mkdir(parents=True)
            for path in chosen:
                (place / path.name).symlink_to(path.absolute())


def convoy(folder: Path, seed: int) -> dict[str, float]:
    run_dir = folder / "run"
    argv = [sys.executable, "-m", "convoy", "train", f"--dataset=folder:{folder}/photographs",
            f"--flagfile={HERE.parent}/recipes/photographs.flags", "--eval_split=none", f"--seed={seed}",
            f"--run_dir={run_dir}", "--devices=cpu:1"]  # fmt: skip
    subprocess.run(argv, check=True)
    result = json.loads((run_dir / "result.json").read_text())
    seconds, rate = result["wall_seconds"], result["train"]["images_per_second"]
    return {"accuracy": result["eval"]["accuracy"], "seconds": seconds, "images_per_second": rate}


def fit(folder: str, seed: int, seconds: float, recipe: bool) -> dict[str, float]:
    """Plain Keras: the median of an epoch's rate, without the first."""
    import statistics

    import keras
    from keras import layers

    from convoy.trainer.models.article_cnn import article_cnn

    keras.utils.set_random_seed(seed)

    def read(split: str, shuffle: bool) -> object:
        return keras.utils.image_dataset_from_directory(
            f"{folder}/photographs/{split}", image_size=(SIZE, SIZE), batch_size=BATCH, shuffle=shuffle, seed=seed,
            crop_to_aspect_ratio=True,
        )  # fmt: skip

    import tensorflow as tf

    # The best that Keras' guides show: decoded once, augmented in parallel, prefetched.
    train, test = read("train", True).cache(), read("test", False)
    count = sum(len(labels) for _, labels in train)
    change = keras.Sequential([layers.RandomZoom((-0.3, 0.0)), layers.RandomFlip("horizontal")])
    train = train.map(lambda x, y: (change(x, training=True) / 255, y), num_parallel_calls=tf.data.AUTOTUNE)
    test = test.map(lambda x, y: (x / 255, y))
    model = article_cnn((SIZE, SIZE, 3), 2)
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=0.05) if recipe else keras.optimizers.Adam(0.001)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])

    class Stop(keras.callbacks.Callback):
        """Ends after `seconds`, and times epochs."""

        def on_train_begin(self, logs: object = None) -> None:
            self.begun, self.epochs = time.perf_counter(), list[float]()

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.epochs.append(time.perf_counter())

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if time.perf_counter() - self.begun > seconds:
                self.model.stop_training = True

    stop = Stop()
    model.fit(train.prefetch(tf.data.AUTOTUNE), epochs=100_000, callbacks=[stop], verbose=0)
    rates = [count / (after - before) for before, after in zip(stop.epochs[1:], stop.epochs[2:], strict=False)]
    _, accuracy = model.evaluate(test, verbose=0)
    return {"accuracy": accuracy, "seconds": seconds, "images_per_second": statistics.median(rates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fit", nargs=4, help="be one process of Keras: FOLDER SEED SECONDS RECIPE")
    flags = parser.parse_args()
    if flags.fit:
        folder, seed, seconds, recipe = flags.fit
        print(json.dumps(fit(folder, int(seed), float(seconds), recipe == "True")))
        return
    rows = []
    for seed in range(flags.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            photographs(folder / "photographs", seed)
            measured = {"Convoy": convoy(folder, seed)}
            for side, recipe in (("Keras fit", False), ("Keras fit, the recipe's optimizer", True)):
                argv = [
                    sys.executable,
                    __file__,
                    "--fit",
                    folder,
                    str(seed),
                    str(measured["Convoy"]["seconds"]),
                    str(recipe),
                ]
                done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
                measured[side] = json.loads(done.stdout.splitlines()[-1])
        for side, figures in measured.items():
            print(f"{side} seed {seed}: {figures}", flush=True)
            rounded = {name: round(value, 4 if name == "accuracy" else 1) for name, value in figures.items()}
            rows.append({**describe(), "side": side, "seed": seed, **rounded})
    write(HERE / "results" / "photographs_from_scratch.csv", rows)


if __name__ == "__main__":
    main()
