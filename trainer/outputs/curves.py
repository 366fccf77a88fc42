"""curves.png: what a person sees of a finished run. Starts no TensorFlow."""

from __future__ import annotations

import io
import math
from typing import Any

from convoy.outside import printable
from convoy.store import Store
from convoy.trainer.outputs.records import read_metrics
from convoy.trainer.run_dir.files import CURVES


def draw(store: Store, title: str) -> None:
    """curves.png: loss and accuracy over the epochs, of training and of the examples that chose the best checkpoint."""
    import matplotlib  # late: it takes half a second, which would delay the first step

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = read_metrics(store)

    def value(record: dict[str, Any], name: str) -> float:
        recorded = record.get(name)
        return math.nan if recorded is None else recorded

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in ("train", "eval"):
            points = [(record["epoch"], value(record, name)) for record in records if record["split"] == split]
            if points:
                axis.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 40 else None)
        axis.set(xlabel="epoch", ylabel=name)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.suptitle(printable(title), parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    store.put(CURVES, buffer.getvalue())
