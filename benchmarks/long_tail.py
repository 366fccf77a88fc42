"""The effect of --balance and --loss on a long tail: `python benchmarks/long_tail.py`.

CIFAR-10-LT, imbalance 100: class c keeps 5,000 * 100**(-c / 9) of its training images (Cui et al. 2019, section 5.1), 12,406
in all. Those whose content hashes come first stay. The test split stays complete, 1,000 images a class. article_cnn with
--augment=standard makes the same number of steps with every option, cosine to 0. Mean recall is over the 10 classes of the
test split. Many is over the 8 classes with more than 100 training images, medium over the 2 with fewer (none has fewer than
20). The options take turns, one seed after the other, in one process. Writes results/long_tail.csv.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

from rows import DATA, HERE, describe, write

RESULTS = HERE / "results" / "long_tail.csv"
IMBALANCE = 100
# (--balance, --loss)
OPTIONS = [
    ("none", "cross_entropy"),
    ("sqrt", "cross_entropy"),
    ("effective:0.999", "cross_entropy"),
    ("oversample", "cross_entropy"),
    ("undersample", "cross_entropy"),
    ("none", "focal"),
    ("none", "weighted:0.999"),
    ("none", "weighted"),
    ("none", "balanced_softmax"),
    ("none", "logit_adjusted:1.5"),
    ("sqrt", "balanced_softmax"),
    ("sqrt", "logit_adjusted:1.5"),
]


def long_tail(dataset: Any) -> Any:
    """The data set with fewer training examples of every class but the first."""
    import numpy as np

    from convoy.data.sources.examples import DataSet

    train, classes = dataset.split("train"), len(dataset.class_names)
    largest, hashes = np.bincount(train.labels).max(), train.content_hashes()
    kept = [
        sorted(np.flatnonzero(train.labels == c), key=hashes.__getitem__)[
            : int(largest * IMBALANCE ** (-c / (classes - 1)))
        ]
        for c in range(classes)
    ]
    readers = {"train": lambda: train.select(np.concatenate(kept)), "test": lambda: dataset.split("test")}
    return DataSet(dataset.name, dataset.class_names, dataset.image_shape, readers)


def measure(data_dir: str, balance: str, loss: str, steps: int, seed: int) -> dict[str, float]:
    """Trains once; what the test split says."""
    from convoy.data.config import DataConfig
    from convoy.trainer import run
    from convoy.trainer.config import RunConfig

    with tempfile.TemporaryDirectory() as folder:
        end = f"{steps}st"
        data = DataConfig("cifar10", data_dir, eval_split="none", augment="standard", balance=balance)
        config = RunConfig(f"{folder}/run", data, loss=loss, duration=end, schedule="cosine", eval_every=end,
                           checkpoint_every=end, seed=seed, devices="cpu:1")  # fmt: skip
        result = run.run(config)
    groups = result["eval"]["groups"]
    return {
        "mean_recall": round(result["eval"]["mean_recall"], 4),
        "many": round(groups["many"]["recall"], 4),
        "medium": round(groups["medium"]["recall"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--data_dir", default=str(DATA))
    flags = parser.parse_args()

    from convoy.data import opening
    from convoy.data.config import DataConfig

    tail = long_tail(opening.open_dataset(DataConfig("cifar10", flags.data_dir)))
    vars(opening)["open_dataset"] = lambda config, download: tail
    rows: list[dict[str, object]] = []
    for seed in range(flags.seeds):
        for balance, loss in OPTIONS:
            measured = measure(flags.data_dir, balance, loss, flags.steps, seed)
            print(f"{balance} {loss} seed {seed}: {measured}", flush=True)
            rows.append(
                {**describe(), "balance": balance, "loss": loss, "steps": flags.steps, "seed": seed, **measured}
            )
    write(RESULTS, rows)


if __name__ == "__main__":
    main()
