"""The positions that one process reads for its training batches, in the order in which it reads them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from convoy.data.blocked import BlockedOrder


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What convoy.data.pipeline.training_stream will read.

    Attributes:
      order: what each position shows.
      first_position: of the first step.
      batch_size: positions of a step of all processes.
      ranges: (offset in the batch, length) of the consecutive positions of this process, in order.
      aligned: whether ranges are read as they are; else with the partners of positions at their ends, in a mix.
      steps: how many are expected, so that no more is read ahead; 0: without end. The stream itself has no end.
    """

    order: BlockedOrder
    first_position: int
    batch_size: int
    ranges: tuple[tuple[int, int], ...]
    aligned: bool = True
    steps: int = 0

    @property
    def end(self) -> float:
        """The position before which reading ahead stops."""
        return self.first_position + self.steps * self.batch_size if self.steps else math.inf

    def positions(self, first_step: int, steps: int) -> np.ndarray:
        """The positions that are read for these steps, int64 [n], some of them twice where partners are read too."""
        starts = self.first_position + (first_step + np.arange(steps)) * self.batch_size
        columns = []
        for offset, length in self.ranges:
            first = starts + offset
            if not self.aligned:  # as PositionRanges.padded_to_pairs has it
                first, length = first - first % 2, length + 2 - length % 2
            columns.append(first[:, None] + np.arange(length))
        return np.concatenate(columns, axis=1).ravel()
