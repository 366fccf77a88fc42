"""The schedules' formulas: a moment of the run -> the fraction of the peak learning rate."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Moment(NamedTuple):
    """A step after warm-up.

    Attributes:
      step: a scalar in Keras' floatx: the number of updates made before.
      passed: the fraction of the steps after warm-up that has passed, from 0 to 1; like `step`.
      total_steps: of the whole run.
    """

    step: Any
    passed: Any
    total_steps: int


def constant(moment: Moment) -> Any:
    """1."""
    return ops.ones_like(moment.passed)


def linear(moment: Moment) -> Any:
    """1 - t, where t is the fraction that has passed."""
    return 1.0 - moment.passed


def polynomial(moment: Moment, power: float) -> Any:
    """(1 - t)**power."""
    return (1.0 - moment.passed) ** power


def cosine(moment: Moment) -> Any:
    """(1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017, equation 5, without restarts)."""
    return 0.5 + 0.5 * ops.cos(moment.passed * 3.141592653589793)


def step(moment: Moment, *fractions: float) -> Any:
    """0.1**k, where k of the fractions of the whole run have passed (He et al. 2016)."""
    borders = ops.convert_to_tensor([fraction * moment.total_steps for fraction in fractions], dtype=moment.step.dtype)
    return 0.1 ** ops.sum(ops.cast(moment.step >= borders, moment.step.dtype))
