"""The schedules' formulas: a moment of the run -> the fraction of the peak learning rate."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Moment(NamedTuple):
    """A step after warm-up.

    Attributes:
      step: a scalar in Keras' floatx: the number of updates made before; with --batch_ramp in steps of --batch_size, as are
        all steps here.
      passed: the fraction of the steps after warm-up that has passed, from 0 to 1; like `step`.
      total_steps: of the whole run.
      peak: the largest learning rate.
    """

    step: Any
    passed: Any
    total_steps: float
    peak: float


def constant(moment: Moment) -> Any:
    """1."""
    return ops.ones_like(moment.passed)


def linear(moment: Moment) -> Any:
    """1 - t, where t is the fraction that has passed."""
    return 1.0 - moment.passed


def polynomial(moment: Moment, power: float, end: float = 0.0) -> Any:
    """(1 - t)**power, from the peak down to the learning rate `end`, 0 or more."""
    floor = end / moment.peak
    return floor + (1.0 - floor) * (1.0 - moment.passed) ** power


def cosine(moment: Moment) -> Any:
    """(1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017, equation 5, without restarts)."""
    return 0.5 + 0.5 * ops.cos(moment.passed * 3.141592653589793)


def step(moment: Moment, *fractions: float) -> Any:
    """0.1**k, where k of the fractions of the whole run have passed (He et al. 2016)."""
    borders = ops.convert_to_tensor([fraction * moment.total_steps for fraction in fractions], dtype=moment.step.dtype)
    return 0.1 ** ops.sum(ops.cast(moment.step >= borders, moment.step.dtype))


def trapezoid(moment: Moment, fraction: float) -> Any:
    """1, then a line down to 0 over the last `fraction` of the whole run (Zhai et al. 2022, section 3.5)."""
    return 1.0 - _cooled(moment, fraction)


def wsd(moment: Moment, fraction: float) -> Any:
    """1, then 1 - sqrt(t) over the last `fraction` of the whole run, t from 0 to 1 there.

    The three phases are those of Hu et al. 2024 (MiniCPM, section 4.2); the shape of the last is the best of those that Hägele
    et al. 2024 compare (section 3.2).
    """
    return 1.0 - ops.sqrt(_cooled(moment, fraction))


def rising(moment: Moment, low: float) -> Any:
    """low**(1 - t): from the fraction `low`, between 0 and 1, up to the peak, by the same factor every step (Smith 2017)."""
    return low ** (1.0 - moment.passed)


def _cooled(moment: Moment, fraction: float) -> Any:
    """How much of the last `fraction` of the run has passed, from 0 to 1."""
    length = fraction * moment.total_steps
    return ops.clip((moment.step - (moment.total_steps - length)) / length, 0.0, 1.0)
