"""The learning-rate range test (Smith 2017, section 3.3): losses at rising rates -> a rate. Imports nothing heavy.

Which rate is named, and when to stop, follow Gugger 2018 ("How do you find a good learning rate", sgugger.github.io) and
Howard & Gugger 2020 ("Deep Learning for Coders", chapter 5): a tenth of the rate where the smoothed loss is lowest, and no more
steps once it is four times that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

STEPS = 100
LOW, HIGH = 1e-5, 1e3  # the rates, as multiples of the optimizer's own; for adam from 1e-8 to 1
_SMOOTHING = 0.98  # of the moving average
_DIVERGED = 4.0
_SHARE = 0.1  # of the rate at the minimum
_FELL = 0.99  # of the first loss: a minimum above that is noise


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What was measured, a number a step.

    Attributes:
      rates: the learning rates, rising.
      losses: of the batches, before their updates; all finite.
      smoothed: their moving average, without bias.
      ends: whether the loss became infinite, NaN or four times the lowest before the last rate.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    ends: bool

    @classmethod
    def of_losses(cls, rates: Sequence[float], losses: Sequence[float]) -> RangeTest:
        """The test from the losses of its steps; those from the first that ends it are left out.

        Args:
          rates: of the steps, and of those that were not made any more.
          losses: of the steps that were made.
        """
        smoothed = list(_smoothed(losses))
        kept = next((step for step in range(len(losses)) if _ends(smoothed[: step + 1])), len(losses))
        return cls(rates[:kept], losses[:kept], smoothed[:kept], kept < len(losses))

    @property
    def lowest(self) -> int:
        """The step at which the smoothed loss was lowest."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def rate(self) -> float | None:
        """The rate that is named, with two digits; None where the loss never fell."""
        if not self.smoothed or self.smoothed[self.lowest] > _FELL * self.smoothed[0]:
            return None
        return float(f"{_SHARE * self.rates[self.lowest]:.1e}")

    @property
    def sentence(self) -> str:
        """Which rate is named, and why."""
        if not self.smoothed:
            return "No learning rate is named: the loss was not finite at the first."
        first, last = self.rates[0], self.rates[-1]
        tried = f"between {first:.2g} and {last:.2g}"
        if self.rate is None:
            return f"No learning rate is named: the smoothed loss, {self.smoothed[0]:.3g} at first, never fell {tried}."
        lowest = f"the smoothed loss was lowest, {self.smoothed[self.lowest]:.3g}"
        end = f"it diverged above {last:.2g}" if self.ends else f"it did not diverge up to {last:.2g}"
        return (
            f"--learning_rate={self.rate:g}: a tenth of {self.rates[self.lowest]:.2g}, where {lowest}; {end} (Smith 2017, by"
            " the rule of Gugger 2018)."
        )


def _smoothed(losses: Sequence[float]) -> Iterator[float]:
    average = 0.0
    for step, loss in enumerate(losses, 1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        yield average / (1 - _SMOOTHING**step)


def _ends(smoothed: Sequence[float]) -> bool:
    last = smoothed[-1]
    return not math.isfinite(last) or (len(smoothed) > 1 and last > _DIVERGED * min(smoothed[:-1]))
