"""Fine-tuning on few photographs: `python benchmarks/fine_tune.py`.

CIFAR-10 shown at 128x128 pixels: 100 training images a class, drawn by the seed, and 200 test images a class, always the same.
EfficientNet-Lite0 with weights of ImageNet. Four sides a seed, in turn:

  head        a head on frozen features, computed once (--cache_features)
  regression  scikit-learn's LogisticRegression on the same features, standardized, with the best penalty of a few: best on the
              test images, which is more than it could know
  staged      the head alone for 20 epochs, then all but BatchNormalization for 6 (--unfreeze)
  scratch     the same network without the weights, for as many seconds as `staged` took

Each is a process of its own, with oneDNN, which TensorFlow leaves off by itself on processors without AVX-512. `seconds` is
training alone. Writes results/fine_tune.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rows import DATA, HERE, describe, write

RESULTS = HERE / "results" / "fine_tune.csv"
WEIGHTS = DATA.parent / "pretrained" / "efficientnet_lite0"
SIZE, PER_CLASS = 128, {"train": 100, "test": 200}
STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)  # LogisticRegression's C
COMMON = [f"--image_size={SIZE}", "--eval_split=none", "--batch_size=50", "--optimizer=adamw", "--schedule=cosine",
          "--weight_decay=0.05", "--devices=cpu:1"]  # fmt: skip
SIDES = {
    "head": [f"--pretrained={WEIGHTS}", "--groups=^logits/:lr=1;.:freeze", "--cache_features", "--duration=40ep",
             "--learning_rate=0.003", "--eval_every=40ep", "--checkpoint_every=40ep"],
    "staged": [f"--pretrained={WEIGHTS}", "--batchnorm=frozen", "--unfreeze=20ep", "--cache_features",
               "--layer_decay=0.9", "--duration=26ep", "--learning_rate=0.003", "--eval_every=26ep", "--checkpoint_every=26ep"],
    "scratch": ["--model=efficientnet_lite0", "--duration=200ep", "--augment=standard", "--learning_rate=0.001",
                "--eval_every=200ep", "--checkpoint_every=200ep"],
}  # fmt: skip


def photographs(folder: Path, seed: int) -> None:
    """CIFAR-10 as a folder of PNG files: PER_CLASS images of each split."""
    import numpy as np
    from PIL import Image

    from convoy.data.config import DataConfig
    from convoy.data.sources.opening import open_dataset

    dataset = open_dataset(DataConfig("cifar10", data_dir=str(DATA)))
    for split, count in PER_CLASS.items():
        examples, draw = dataset.split(split), np.random.default_rng(seed if split == "train" else 0)
        order = np.argsort(examples.content_hashes())
        for label, name in enumerate(dataset.class_names):
            rows = draw.choice(order[examples.labels[order] == label], count, replace=False)
            place = folder / split / name
            place.mkdir(parents=True)
            for row in rows:
                Image.fromarray(examples.images[row]).save(place / f"{row:05}.png")


def train(folder: Path, side: str, seed: int, more: list[str]) -> dict[str, Any]:
    """Accuracy on the test split and seconds of training."""
    run_dir = folder / side
    argv = [
        sys.executable,
        "-m",
        "convoy",
        "train",
        f"--dataset=folder:{folder}/photographs",
        *COMMON,
        *SIDES[side],
        *more,
    ]
    subprocess.run([*argv, f"--seed={seed}", f"--run_dir={run_dir}"], check=True)
    result = json.loads((run_dir / "result.json").read_text())
    return {"accuracy": round(result["eval"]["accuracy"], 4), "seconds": round(result["wall_seconds"], 1)}


def regression(folder: Path) -> dict[str, Any]:
    """LogisticRegression on the features of the run `head`, with the penalty that suits the test images best."""
    import time

    import keras
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from convoy.data.config import DataConfig
    from convoy.data.pipeline import evaluation_batches
    from convoy.data.sources.opening import open_dataset
    from convoy.trainer.experiment import open_run

    model = open_run(str(folder / "head")).model
    outputs = model.get_layer("backbone")(model.get_layer("preprocess").output)
    features = keras.Model(model.inputs, outputs)
    dataset = open_dataset(DataConfig(f"folder:{folder}/photographs", image_size=SIZE))
    table = {}
    for split in ("train", "test"):
        examples = dataset.split(split)
        batches = evaluation_batches(examples, 250, 1, 0, 1).take(-(-len(examples) // 250))
        computed = [features.predict_on_batch(np.asarray(batch[0], np.float32) / 255) for batch in batches]
        table[split] = np.concatenate(computed)[: len(examples)], examples.labels
    begun = time.perf_counter()
    classifiers = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(*table["train"])
        for strength in STRENGTHS
    ]
    seconds = time.perf_counter() - begun
    accuracy = max(float(classifier.score(*table["test"])) for classifier in classifiers)
    return {"accuracy": round(accuracy, 4), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    flags = parser.parse_args()
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    rows = []
    for seed in range(flags.seeds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            photographs(folder / "photographs", seed)
            measured = {"head": train(folder, "head", seed, [])}
            measured["regression"] = regression(folder)
            measured["staged"] = train(folder, "staged", seed, [])
            minutes = measured["staged"]["seconds"] / 60
            measured["scratch"] = train(folder, "scratch", seed, [f"--max_minutes={minutes:.3f}"])
        for side, figures in measured.items():
            print(f"{side} seed {seed}: {figures}", flush=True)
            rows.append({**describe(), "side": side, "seed": seed, **figures})
    write(RESULTS, rows)


if __name__ == "__main__":
    main()
