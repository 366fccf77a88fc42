"""What a person sees of a finished run, and of a search for a learning rate: curves.png, find_lr.png. Starts no TensorFlow."""

from __future__ import annotations

import io
import math
from typing import Any

from convoy.outside import Name, printable
from convoy.store import Store
from convoy.trainer.outputs.records import read_metrics
from convoy.trainer.run_dir.files import CURVES, RATE_CURVE
from convoy.trainer.schedules.range_test import RangeTest


def draw(store: Store, title: str) -> None:
    """curves.png: loss and accuracy over the epochs, of training and of the examples that chose the best checkpoint."""
    records = read_metrics(store)

    def value(record: dict[str, Any], name: str) -> float:
        recorded = record.get(name)
        return math.nan if recorded is None else recorded

    figure, axes = _subplots(2)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "eval"):
            points = [(record["epoch"], value(record, name)) for record in records if record["split"] == split]
            if points:
                axis.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 40 else None)
        axis.set(xlabel="epoch", ylabel=name)
    axes[0].legend(frameon=False)
    _put(store, CURVES, figure, title)


def draw_range_test(store: Store, test: RangeTest, title: str) -> None:
    """find_lr.png: the loss of each step and its average over the learning rate, and the rate that is named."""
    figure, (axis,) = _subplots(1)
    axis.plot(test.rates, test.losses, label="loss of a step", alpha=0.3)
    axis.plot(test.rates, test.smoothed, label="smoothed")
    if test.rate is not None:
        axis.axvline(test.rate, color="black", linestyle=":", label=f"{test.rate:g}")
    top = 2 * test.smoothed[0] if test.smoothed else None  # how far it diverges in the end says nothing
    axis.set(xlabel="learning rate", ylabel="loss", xscale="log", ylim=(0, top))
    axis.legend(frameon=False)
    _put(store, RATE_CURVE, figure, title)


def _subplots(count: int) -> tuple[Any, Any]:
    """A figure and its axes."""
    import matplotlib  # late: it takes half a second, which would delay the first step

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(5 * count, 3.8), layout="constrained", squeeze=False)
    for axis in axes[0]:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def _put(store: Store, name: Name, figure: Any, title: str) -> None:
    from matplotlib import pyplot

    figure.suptitle(printable(title), parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    store.put(name, buffer.getvalue())
