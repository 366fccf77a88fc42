"""--balance at the level of indices: which example a position of the training stream shows, and for how many times now."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data.order import indices


class Drawn(NamedTuple):
    """What consecutive positions show."""

    indices: tf.Tensor  # int64 [n]
    shown: tf.Tensor  # int64 [n]: how often each of these examples was shown before


class Order:
    """Positions -> examples, a pure function of (seed, position).

    Args:
      labels: int32 [N], the label of every example.
      balance: none: every example once an epoch.
      seed: the run's.
    """

    def __init__(self, labels: np.ndarray, balance: str, seed: int):
        self.examples, self.seed = len(labels), seed

    @property
    def epoch(self) -> int:
        """Positions of one epoch."""
        return self.examples

    def draw(self, positions: tf.Tensor) -> Drawn:
        """Positions int64 [n], any -> what they show."""
        return Drawn(indices(positions, self.examples, self.seed), positions // self.examples)
