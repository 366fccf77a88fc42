"""--batch_ramp=128:5ep,256:10ep: smaller batches before those of --batch_size. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction
from typing import NamedTuple

from convoy import options
from convoy.trainer.flags.clock import Clock, Segment
from convoy.trainer.flags.durations import Duration

MAX_SIZES = 16  # each is a program of its own
_SIZE = re.compile(r"[1-9][0-9]{0,7}")


class Rung(NamedTuple):
    """A batch size, and for how long it is that of a step."""

    batch_size: int
    duration: Duration


@dataclasses.dataclass(frozen=True)
class RampSpec:
    """--batch_ramp, parsed: sizes that rise, and their durations; none for a run of one size."""

    text: str
    rungs: tuple[Rung, ...]

    @classmethod
    def parse(cls, text: str) -> RampSpec:
        """`text` as --batch_ramp has it, "" for none; CannotRun, a sentence, for a text that is impossible."""
        rungs = tuple(map(_rung, text.split(","))) if text else ()
        sizes = [rung.batch_size for rung in rungs]
        if sizes != sorted(set(sizes)):
            raise options.impossible("batch_ramp", text, "give sizes that rise, for example 128:5ep,256:10ep")
        if len(sizes) > MAX_SIZES:
            raise options.impossible("batch_ramp", text, f"give at most {MAX_SIZES} sizes, each of which is compiled")
        return cls(text, rungs)

    def __str__(self) -> str:
        return self.text

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(rung.batch_size for rung in self.rungs)

    def clock(self, epoch: int, batch_size: int) -> Clock:
        """The clock of a run that ends with batches of `batch_size`, where an epoch has `epoch` positions.

        Durations in epochs add up exactly: a size ends with the first step at which all of them have passed.

        Raises:
          exits.CannotRun: a size has no step.
        """
        clock, until = Clock.steady(epoch, (*self.sizes, batch_size)[0]), Fraction(0)
        for rung, following in zip(self.rungs, (*self.sizes, batch_size)[1:], strict=True):
            begun = clock.segments[-1].first_step
            if rung.duration.unit == "st":
                border = begun + int(rung.duration.amount)
                until = Fraction(clock.position(border))
            else:
                until += rung.duration.amount * epoch
                border = clock.step_at(until)
            if border <= begun:
                remedy = (
                    f"the batches of {rung.batch_size} have no step; give them a longer duration, or leave them out"
                )
                raise options.impossible("batch_ramp", self.text, remedy)
            clock = Clock(epoch, (*clock.segments, Segment(border, clock.position(border), following)))
        return clock

    def check_end(self, clock: Clock, total: int) -> None:
        """Raises exits.CannotRun for a ramp that has not ended when the run has, after `total` steps."""
        if clock.borders and clock.borders[-1] >= total:
            remedy = f"it ends at step {clock.borders[-1]:,} of {total:,}; shorten it, or give a longer --duration"
            raise options.impossible("batch_ramp", self.text, remedy)


def _rung(text: str) -> Rung:
    size, colon, duration = text.partition(":")
    if not colon or not _SIZE.fullmatch(size):
        remedy = "give SIZE:DURATION, and more of them behind commas, for example 128:5ep,256:10ep"
        raise options.impossible("batch_ramp", text, remedy)
    return Rung(int(size), Duration.parse(duration, "batch_ramp", positive=True))
