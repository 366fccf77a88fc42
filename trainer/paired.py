"""Whether two runs differ on the same examples: McNemar's exact test, and the interval of the difference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convoy.trainer.figures import Z
from convoy.trainer.logits import Logits


class Difference(NamedTuple):
    """Of two runs on n examples.

    Attributes:
      first, second: the examples that only one of them has right.
      value: accuracy of the first less that of the second.
      low, high: the 95 % interval of `value`, by the variance of paired proportions (Agresti 2013, section 11.1).
      p: the probability of a split of the `first + second` examples at least as uneven, if neither run is better (McNemar 1947,
        by the binomial distribution, two-sided).
    """

    first: int
    second: int
    value: float
    low: float
    high: float
    p: float


@dataclasses.dataclass(frozen=True)
class Guesses:
    """What a run took N examples for.

    Attributes:
      index: int64 [N], their places in the split.
      label: int32 [N], the right class.
      guess: int32 [N], the most probable class.
    """

    index: np.ndarray
    label: np.ndarray
    guess: np.ndarray

    @classmethod
    def of_logits(cls, logits: Logits) -> Guesses:
        """They take no part of the logits' memory."""
        return cls(logits.index.copy(), logits.label.copy(), logits.guess.astype(np.int32))


def difference(first: Guesses, second: Guesses) -> Difference | None:
    """Of two runs; None where they were not measured on the same examples, or on none."""
    if not len(first.label) or not (
        np.array_equal(first.index, second.index) and np.array_equal(first.label, second.label)
    ):
        return None
    from scipy.stats import binomtest  # late: it takes seconds

    rights = [run.guess == run.label for run in (first, second)]
    own, other = int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())
    total, split = len(first.label), own + other
    value = (own - other) / total
    reach = Z * math.sqrt(max(split / total - value * value, 0.0) / total)
    p = binomtest(own, split).pvalue if split else 1.0
    return Difference(own, other, value, max(value - reach, -1.0), min(value + reach, 1.0), float(p))


def holm(values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, so corrected that the chance of any false finding is that of one (Holm 1979)."""
    corrected, reached = [0.0] * len(values), 0.0
    for place, index in enumerate(np.argsort(values, kind="stable").tolist()):
        reached = max(reached, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = reached
    return corrected
