"""--calibration: how far confidence is from accuracy, and the temperature that mends it (Guo et al. 2017)."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from convoy import exits
from convoy.trainer import figures
from convoy.trainer.evaluations.measuring import Measuring, Outcome
from convoy.trainer.logits import Logits

_BOUNDS = math.log(0.05), math.log(20)  # of the temperature's logarithm


def measure(measuring: Measuring, _: bool) -> Outcome:
    """Fits on the examples that chose the best checkpoint, and measures on the split."""
    held_out = measuring.experiment.data.held_out
    if held_out is None or measuring.split == "eval":
        raise exits.CannotRun(
            "--calibration fits a temperature on the examples that chose the best checkpoint and measures it on others;"
            + (
                " the run held none out (--eval_split=none)."
                if held_out is None
                else " measure another split than eval."
            )
        )
    if measuring.logits.shortened:
        raise exits.CannotRun(
            f"--calibration needs all logits, and of {measuring.classes:,} classes only the largest are kept; leave it out."
        )
    temperature = fit(measuring.measure(held_out))
    before, after = _figures(measuring.logits), _figures(scaled(measuring.logits, temperature))
    values = {"temperature": temperature, "fitted_on": len(held_out), "before": before, "after": after}
    lines = [
        f"calibration error {before['ece']:.2%}, loss {before['loss']:.4f}; with the temperature {temperature:.3f}, fitted on"
        f" {len(held_out):,} eval examples: {after['ece']:.2%}, {after['loss']:.4f}"
    ]
    return Outcome(values, lines)


def fit(logits: Logits) -> float:
    """The temperature T, from 0.05 to 20, whose probabilities softmax(logits / T) have the smallest loss."""
    finite = np.isfinite(logits.logits).all(axis=1)
    rows, labels = logits.logits[finite].astype(np.float64), logits.label[finite]
    if not len(rows):
        raise exits.BadData("--calibration: no logit of the eval examples is finite; train the run again.")

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(rows / math.exp(log_temperature), axis=1)[np.arange(len(rows)), labels].mean())

    return math.exp(minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6}).x)


def scaled(logits: Logits, temperature: float) -> Logits:
    """The same examples with their logits divided by the temperature."""
    return dataclasses.replace(logits, logits=logits.logits.astype(np.float64) / temperature)


def _figures(logits: Logits) -> dict[str, float]:
    """Expected calibration error, loss, and the Brier score (1950): the squared distance to the right answer."""
    probabilities = np.exp(logits.logits.astype(np.float64) - logits.log_sum[:, None])
    probabilities[np.arange(len(logits)), logits.label] -= 1
    return {
        "ece": figures.calibration(logits).error,
        "loss": float(logits.losses.mean()),
        "brier": float(np.square(probabilities).sum(axis=1).mean()),
    }
