"""What is left of a run for programs: result.json."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import numpy as np

from convoy import __version__, heartbeat
from convoy.data.sources.examples import DataSet, Examples
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.loop.loop import Plan
from convoy.trainer.loop.progress import Progress
from convoy.trainer.processes.signals import Signals

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
        heartbeat.beat()
        return engine.any(signals.asked)

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
