"""--corruptions: accuracy on corrupted images (Hendrycks & Dietterich 2019)."""

from __future__ import annotations

import functools

import numpy as np

from convoy import exits
from convoy.data.corruptions.corrupt import CHANNELS, corrupt
from convoy.data.corruptions.names import SEVERITIES, CorruptionsSpec
from convoy.data.sources.changed import Changed
from convoy.trainer.evaluations.measuring import Measuring, Outcome, accuracy


def measure(measuring: Measuring, names: str) -> Outcome:
    """Measures each corruption at each severity. The examples of a run are corrupted the same way each time."""
    if measuring.examples.shape[2] not in CHANNELS:
        raise exits.CannotRun(
            f"--corruptions is for pictures, and the run's images have {measuring.examples.shape[2]} channels; leave it out."
        )
    seed = measuring.experiment.config.seed
    of_names: dict[str, list[float]] = {}
    for name in CorruptionsSpec.parse(names).names:
        of_names[name] = []
        for severity in SEVERITIES:
            change = functools.partial(corrupt, name=name, severity=severity, seed=seed)
            logits = measuring.measure(Changed(measuring.examples, change))
            of_names[name].append(accuracy(logits)["accuracy"])
    mean = float(np.mean([*of_names.values()]))
    clean = accuracy(measuring.logits)["accuracy"]
    values = {"mean_accuracy": mean, "clean_accuracy": clean, "accuracy": of_names}
    width = max(map(len, of_names))
    head = f"  {'':<{width}}  " + "  ".join(f"{severity:>6}" for severity in SEVERITIES) + "    mean"
    rows = [
        f"  {name:<{width}}  " + "  ".join(f"{share:>6.1%}" for share in shares) + f"  {np.mean(shares):>6.1%}"
        for name, shares in of_names.items()
    ]
    return Outcome(
        values, [f"on corrupted images {mean:.2%} on average, {clean:.2%} without; by severity:", head, *rows]
    )
