"""A run's clock: which examples a step trains on, and at which step so many were shown. Imports nothing heavy."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from fractions import Fraction
from typing import NamedTuple


class Segment(NamedTuple):
    """Steps of one batch size, up to the next segment.

    Attributes:
      first_step: where it begins.
      position: the examples that were shown before it.
      batch_size: examples of each of its steps.
    """

    first_step: int
    position: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Clock:
    """Steps and positions of a run that passes over no examples, in whole numbers.

    Attributes:
      epoch: positions of an epoch, 1 or more.
      segments: in order, from step 0 on; the batch size of the last is --batch_size, and each is larger than the one before.
    """

    epoch: int
    segments: tuple[Segment, ...]

    @classmethod
    def steady(cls, epoch: int, batch_size: int) -> Clock:
        """That of a run without --batch_ramp."""
        return cls(epoch, (Segment(0, 0, batch_size),))

    @property
    def full_batch(self) -> int:
        """--batch_size."""
        return self.segments[-1].batch_size

    @property
    def borders(self) -> tuple[int, ...]:
        """The steps at which the batch grows."""
        return tuple(segment.first_step for segment in self.segments[1:])

    def batch_size(self, step: int) -> int:
        """Examples of a step."""
        return self._segment(step).batch_size

    def position(self, step: int) -> int:
        """The examples that were shown before a step: the first position of its batch."""
        segment = self._segment(step)
        return segment.position + (step - segment.first_step) * segment.batch_size

    def step_at(self, examples: int | Fraction) -> int:
        """The first step before which so many examples were shown, or more."""
        first_step, position, batch_size = self.segments[bisect.bisect_right(self._positions, examples) - 1]
        return first_step + math.ceil((examples - position) / Fraction(batch_size))

    def step_of(self, position: int) -> int:
        """The step that trains on a position."""
        return self.step_at(position + 1) - 1

    def full_steps(self, step: int) -> Fraction:
        """The examples that were shown before a step, in steps of --batch_size."""
        return Fraction(self.position(step), self.full_batch)

    def _segment(self, step: int) -> Segment:
        return self.segments[bisect.bisect_right(self._first_steps, step) - 1]

    @functools.cached_property
    def _first_steps(self) -> list[int]:
        return [segment.first_step for segment in self.segments]

    @functools.cached_property
    def _positions(self) -> list[int]:
        return [segment.position for segment in self.segments]
