"""--noise_scale: the gradient noise scale of a run, measured while it trains. Imports nothing heavy.

B_simple = tr(S) / |G|^2 (McCandlish et al. 2018, section 2.2), with G the gradient of the expected loss and S the covariance of
one example's gradient. In a batch of B_simple examples the noise of the gradient is as long as the gradient itself. tr(S) and
|G|^2 are estimated without bias from the gradients of a batch and of its parts, averaged apart over the steps, and divided last
(appendix A.1).

A part is what a replica differentiates at once: its slice of a microbatch. Its gradient exists anyway, and only the sum of the
parts' squared norms crosses between replicas. So a batch has replicas times --accumulate parts. One device with --accumulate=4,
two with 2 and four with 1 have the same parts (data.pipeline.BatchSharding) and measure the same. Where that product is another
one, the same batch falls into other parts: the estimates then differ, but what they estimate does not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convoy.counting import counted
from convoy.options import impossible

DECAY = 0.99  # of both averages, per step: they remember some hundred steps


class Estimates(NamedTuple):
    """Of each step, float64 [steps]; right on average only, so that one of a step may be below 0. NaN for a skipped step.

    Attributes:
      squared_gradient: |G|^2.
      variance: tr(S), of one example.
    """

    squared_gradient: np.ndarray
    variance: np.ndarray


def estimate(norms: np.ndarray, squares: np.ndarray, part_sizes: Sequence[int]) -> Estimates:
    """Estimates G and S from steps whose batch had parts of these sizes.

    With B examples, of which part k has b_k and adds g_k to the batch's gradient g, E|g|^2 = |G|^2 + tr(S) / B and
    E sum |g_k|^2 = |G|^2 sum (b_k / B)^2 + tr(S) / B, as long as examples are drawn independently. The solution is that of the
    paper where parts are equal.

    Args:
      norms: floats [steps], |g|: of the gradient of the batch's mean loss, before clipping.
      squares: floats [steps], sum |g_k|^2.
      part_sizes: b_k, at least two.
    """
    batch_size = sum(part_sizes)
    overlap = sum(size**2 for size in part_sizes) / batch_size**2
    with np.errstate(all="ignore"):
        whole, squares = np.square(norms, dtype=np.float64), squares.astype(np.float64)
        squared_gradient = (whole - squares) / (1 - overlap)
        return Estimates(squared_gradient, batch_size * (whole - squared_gradient))


def check(part_sizes: Sequence[int]) -> None:
    """Raises exits.CannotRun where a batch has one part, whose gradient is that of the batch."""
    if len(part_sizes) < 2:
        remedy = (
            f"it compares the parts of a batch, and here that of {counted(sum(part_sizes), 'example')} has one; give"
            " --accumulate=2 or more, or more devices; with --batch_ramp so many parts that its smallest batch has two"
        )
        raise impossible("noise_scale", "true", remedy)


@dataclasses.dataclass
class NoiseAverages:
    """Exponential moving averages of the estimates of steps, from 0 on; a part of a checkpoint."""

    steps: int = 0  # that were averaged
    squared_gradient: float = 0.0
    variance: float = 0.0

    def add(self, squared_gradient: float, variance: float) -> None:
        """Takes up the estimates of a step; those of a step that was skipped, which are not finite, say nothing."""
        if math.isfinite(squared_gradient) and math.isfinite(variance):
            self.steps += 1
            self.squared_gradient += (1 - DECAY) * (squared_gradient - self.squared_gradient)
            self.variance += (1 - DECAY) * (variance - self.variance)

    def metrics(self) -> dict[str, float | None]:
        """The averages without the 0 that they began with, and the noise scale, in examples.

        That is None where noise hides one of the two: as long as their averages are not both above 0.
        """
        if not self.steps:
            return {"noise_scale": None, "squared_gradient": None, "gradient_variance": None}
        begun = 1 - DECAY**self.steps
        is_known = min(self.squared_gradient, self.variance) > 0
        ratio = self.variance / self.squared_gradient if is_known else math.inf
        return {
            "noise_scale": ratio if math.isfinite(ratio) else None,
            "squared_gradient": self.squared_gradient / begun,
            "gradient_variance": self.variance / begun,
        }

    def describe(self) -> str:
        """The noise scale for a line of the screen."""
        scale = self.metrics()["noise_scale"]
        return f"noise scale {'unknown' if scale is None else format(scale, ',.0f')}"
