"""result.json: measured at the end of a run, and written."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

from convoy import __version__
from convoy.store import Store
from convoy.trainer.experiment import Experiment
from convoy.trainer.logits import Collector, Logits
from convoy.trainer.loop import stopping
from convoy.trainer.loop.progress import Progress
from convoy.trainer.run_dir import pretrained
from convoy.trainer.run_dir.files import PREDICTIONS, RESULT
from convoy.trainer.session import Session

SCHEMA = 1


def measure(
    experiment: Experiment, session: Session, progress: Progress
) -> tuple[dict[str, Any], Logits | None] | None:
    """(result.json of a run that has come to its end, the logits of `eval`); None if a signal came while the test split was
    measured.

    `eval` measures the last weights, averaged with --ema, not those of the best checkpoint. Where --patience ended the run,
    `eval_best` measures those too; else it is null. The engine has another state afterwards. The leading process writes the
    logits to predictions.npz; the others have none.
    """
    config, data, engine = experiment.config, experiment.data, experiment.engine
    stopped = stopping.describe(config, experiment.plan.total, progress)
    collector = Collector(data.final[1].labels)
    last = _measure(experiment, session, collector)
    impatient = stopped is not None and stopped["because"] == "patience"
    best = _measure_best(experiment, session, progress) if impatient else {}
    if last is None or best is None:
        return None
    logits = collector.logits() if engine.cluster.is_leader else None
    if logits:
        session.store.put(PREDICTIONS, logits.to_bytes())
    result = {
        "schema": SCHEMA,
        "status": "finished",
        "step": progress.step,
        "epoch": experiment.plan.epoch(progress.step),
        "examples": experiment.plan.clock.position(progress.step),
        "wall_seconds": progress.wall_seconds,
        "attempts": session.attempt,
        "train": {**_speed(progress), **(progress.noise.metrics() if progress.noise else {})},
        "eval": last,
        "eval_best": best or None,
        "pretrained": pretrained.known(session.store),
        "best": progress.best,
        "stopped_early": stopped,
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
    return result, logits


def _measure(experiment: Experiment, session: Session, collector: Collector | None = None) -> dict[str, Any] | None:
    """The engine's weights on the test split; None if a signal came."""
    data, (split, examples) = experiment.data, experiment.data.final
    sums = experiment.engine.evaluate(examples, session.stop_requested, collector)
    if sums is None:
        return None
    return {"split": split, **sums.measurement(data.dataset.class_names, data.examples_per_class)}


def _measure_best(experiment: Experiment, session: Session, progress: Progress) -> dict[str, Any] | None:
    """The same of the best checkpoint, with its step; empty where that is missing or damaged."""
    assert progress.best, "a run without evaluations has no patience"
    step = int(progress.best["step"])
    if not session.restore_step(experiment, step):
        return {}
    measurement = _measure(experiment, session)
    return measurement and {"step": step, **measurement}


def write_result(store: Store, result: dict[str, Any]) -> None:
    """Writes result.json. A run is finished once it is there, so write it last."""
    store.put(RESULT, (json.dumps(result, indent=1) + "\n").encode())


def _speed(progress: Progress) -> dict[str, float | None]:
    """Of training alone; None for what was not measured."""
    seconds, steps, waited = progress.timed_seconds, progress.timed_steps, progress.wait_seconds
    return {
        "images_per_second": progress.timed_examples / seconds if seconds else None,
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
