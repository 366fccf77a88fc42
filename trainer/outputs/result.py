"""result.json: measured at the end of a run, and written."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

from convoy import __version__
from convoy.store import Store
from convoy.trainer.experiment import Experiment
from convoy.trainer.loop.plan import Plan
from convoy.trainer.loop.progress import Progress
from convoy.trainer.run_dir.files import RESULT
from convoy.trainer.session import Session

SCHEMA = 1


def measure(experiment: Experiment, session: Session, progress: Progress) -> dict[str, Any] | None:
    """result.json of a run that has come to its end; None if a signal came while the test split was measured.

    The weights are the last ones, averaged with --ema, not those of the best checkpoint.
    """
    config, data, engine = experiment.config, experiment.data, experiment.engine
    split, examples = data.final
    sums = engine.evaluate(examples, session.stop_requested)
    if sums is None:
        return None
    return {
        "schema": SCHEMA,
        "status": "finished",
        "step": progress.step,
        "epoch": experiment.plan.epoch(progress.step),
        "examples": experiment.plan.examples_of(progress.step),
        "wall_seconds": progress.wall_seconds,
        "attempts": session.attempt,
        "train": _speed(experiment.plan, progress),
        "eval": {"split": split, **sums.measurement(data.dataset.class_names, data.examples_per_class)},
        "best": progress.best,
        "bad_images": len(data.dataset.bad),
        "skipped_steps": progress.skipped,
        "rollbacks": progress.rollbacks,
        "seed": config.seed,
        "precision": config.precision,
        "devices": config.devices,
        "backend": config.backend,
        "processes": engine.cluster.processes,
        "replicas": engine.replicas,
        "versions": _versions(config.backend),
    }


def write_result(store: Store, result: dict[str, Any]) -> None:
    """Writes result.json. A run is finished once it is there, so write it last."""
    store.put(RESULT, (json.dumps(result, indent=1) + "\n").encode())


def _speed(plan: Plan, progress: Progress) -> dict[str, float | None]:
    """Of training alone; None for what was not measured."""
    seconds, steps, waited = progress.timed_seconds, progress.timed_steps, progress.wait_seconds
    return {
        "images_per_second": plan.examples_of(steps) / seconds if seconds else None,
        "input_wait_fraction": waited / seconds if seconds and waited is not None else None,
        "step_milliseconds": 1000 * seconds / steps if steps else None,
    }


def _versions(backend: str) -> dict[str, str]:
    packages = (*dict.fromkeys(("tensorflow", backend)), "keras", "numpy")
    return {
        "convoy": __version__,
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
    }
