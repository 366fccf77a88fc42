"""What the blocked order does to a shuffle, and to accuracy: `python benchmarks/order_quality.py`.

Stated before anything was measured:

- In every epoch the rank correlation (Spearman) between place in the epoch and index of the example is at most 4 * sqrt(N / E)
  in size: four standard deviations of a shuffle of E / N blocks. The same holds between an epoch and the one after it.
- The mean accuracy of each blocked order differs from that of the full shuffle by no more than the spread, largest minus
  smallest, of the full shuffle's three seeds.

The data set is the worst case for blocks: CIFAR-10 sorted by class, as a folder of classes is, so that all of a block are of
one class. article_cnn, --augment=standard, cosine to 0, the test split. The orders take turns, one seed after the other, in
one process. Writes results/order_quality.csv.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile

from rows import DATA, HERE, describe, write

RESULTS = HERE / "results" / "order_quality.csv"
ORDERS = ("full", "blocked:16", "blocked:64")
BATCH, EPOCHS = 128, 20  # of the correlations


def correlations(order: str, examples: int) -> dict[str, object]:
    """The largest in size over EPOCHS epochs, with the index and with the epoch before, and the bound."""
    import numpy as np
    import tensorflow as tf

    from convoy.data.blocked import BlockedOrder
    from convoy.data.order import indices

    name, _, block = order.partition(":")
    positions = np.arange(EPOCHS * examples)
    if name == "full":
        shown = indices(tf.constant(positions), examples, 0).numpy()
    else:
        shown = BlockedOrder(examples, int(block), BATCH, 0).indices(positions)
    ranks = np.argsort(shown.reshape(EPOCHS, examples), axis=1)  # where each example stands
    of_index = [abs(np.corrcoef(rank, np.arange(examples))[0, 1]) for rank in ranks]
    of_epochs = [abs(np.corrcoef(*pair)[0, 1]) for pair in itertools.pairwise(ranks)]
    blocks = shown[: 100 * BATCH].reshape(100, BATCH) // int(block or 1)
    return {
        "rank_correlation": f"{max(of_index):.4f}",
        "between_epochs": f"{max(of_epochs):.4f}",
        "bound": f"{4 * (int(block or 1) / examples) ** 0.5:.4f}",
        "blocks_in_a_batch": int(np.median([len(np.unique(batch)) for batch in blocks])),
    }


def accuracy(data_dir: str, order: str, epochs: int, seed: int) -> float:
    from convoy.data.config import DataConfig
    from convoy.trainer import run
    from convoy.trainer.config import RunConfig

    with tempfile.TemporaryDirectory() as folder:
        end = f"{epochs}ep"
        data = DataConfig("cifar10", data_dir, eval_split="none", augment="standard", order=order)
        config = RunConfig(f"{folder}/run", data, duration=end, schedule="cosine", eval_every=end, checkpoint_every=end,
                           batch_size=BATCH, seed=seed, devices="cpu:1", report=False)  # fmt: skip
        return run.run(config)["eval"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data_dir", default=str(DATA))
    flags = parser.parse_args()

    import numpy as np

    from convoy.data import opening
    from convoy.data.config import DataConfig
    from convoy.data.sources.examples import DataSet

    whole = opening.open_dataset(DataConfig("cifar10", flags.data_dir))
    train = whole.split("train")
    by_class = train.select(np.argsort(train.labels, kind="stable"))
    readers = {"train": lambda: by_class, "test": lambda: whole.split("test")}
    dataset = DataSet(whole.name, whole.class_names, whole.image_shape, readers)
    vars(opening)["open_dataset"] = lambda config, download: dataset
    figures = {order: correlations(order, len(train)) for order in ORDERS}
    print(figures, flush=True)
    rows: list[dict[str, object]] = []
    for seed in range(flags.seeds):
        for order in ORDERS:
            reached = round(accuracy(flags.data_dir, order, flags.epochs, seed), 4)
            print(f"{order} seed {seed}: {reached}", flush=True)
            rows.append({**describe(), "order": order, "examples": len(train), "batch_size": BATCH, "epochs": flags.epochs,
                         "seed": seed, "accuracy": reached, **figures[order]})  # fmt: skip
    write(RESULTS, rows)


if __name__ == "__main__":
    main()
