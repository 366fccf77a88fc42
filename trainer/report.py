"""What is left of a run for people and programs: result.json and curves.png."""

from __future__ import annotations

import io
import math
import sys
from importlib.metadata import version
from typing import Any

import numpy as np

from convoy import __version__, pulse
from convoy.outside import printable
from convoy.store import Store
from data.sources.examples import DataSet, Examples
from trainer.config import RunConfig
from trainer.engines.protocol import Engine
from trainer.files import CURVES
from trainer.guards import Signals
from trainer.loop import Plan
from trainer.progress import Progress
from trainer.recorder import read_metrics

SCHEMA = 1


def measure(
    config: RunConfig,
    engine: Engine,
    dataset: DataSet,
    counts: np.ndarray,
    final: tuple[str, Examples],
    plan: Plan,
    progress: Progress,
    attempts: int,
    signals: Signals,
) -> dict[str, Any] | None:
    """result.json of a run that has come to its end; None if a signal came while the test split was measured.

    The weights are the last ones, averaged with --ema, not those of the best checkpoint. `counts` are the training examples
    of each class, int64 [classes]; `final` is the split's name and its examples.
    """
    split, examples = final

    def asked() -> bool:
        pulse.tell()
        return engine.agree(signals.asked)

    sums = engine.evaluate(examples, asked)
    if sums is None:
        return None
    seconds, steps = progress.timed_seconds, progress.timed_steps
    return {
        "schema": SCHEMA,
        "status": "finished",
        "step": progress.step,
        "epoch": plan.epoch(progress.step),
        "examples": progress.step * plan.batch_size,
        "wall_seconds": progress.wall_seconds,
        "attempts": attempts,
        "train": {
            "images_per_second": steps * plan.batch_size / seconds if seconds else None,
            "input_wait_fraction": progress.wait_seconds / seconds
            if seconds and progress.wait_seconds is not None
            else None,
            "step_milliseconds": 1000 * seconds / steps if steps else None,
        },
        "eval": {
            "split": split,
            **sums.measurement(dataset.class_names, counts),
        },
        "best": progress.best,
        "bad_images": len(dataset.bad),
        "skipped_steps": progress.skipped,
        "rollbacks": progress.rollbacks,
        "seed": config.seed,
        "precision": config.precision,
        "devices": config.devices,
        "backend": config.backend,
        "processes": engine.cluster.processes,
        "replicas": engine.replicas,
        "versions": {
            "convoy": __version__,
            "python": sys.version.split()[0],
            **{name: version(name) for name in (*dict.fromkeys(("tensorflow", config.backend)), "keras", "numpy")},
        },
    }


def draw_curves(store: Store, title: str) -> None:
    """curves.png: loss and accuracy over the epochs, of training and of the examples that chose the best checkpoint."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = read_metrics(store)

    def value(record: dict[str, Any], name: str) -> float:
        found = record.get(name)
        return math.nan if found is None else found

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for split in dict.fromkeys(record["split"] for record in records):
            points = [(record["epoch"], value(record, name)) for record in records if record["split"] == split]
            axis.plot(*zip(*points, strict=True), label=split, marker="." if len(points) < 40 else None)
        axis.set(xlabel="epoch", ylabel=name)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for text in axes[0].legend(frameon=False).get_texts():
        text.set_parse_math(False)
    figure.suptitle(printable(title), parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    store.put(CURVES, buffer.getvalue())
