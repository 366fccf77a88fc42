"""Durations of training: `10ep` are epochs, `600st` steps, and `30min` minutes, of which --duration alone may be."""

from __future__ import annotations

import dataclasses
import math
import re
from fractions import Fraction

from convoy import exits
from convoy.options import impossible, shortened
from convoy.trainer.flags.clock import Clock

# Steps are counted in int32 on JAX. Positions of examples, and of the random numbers of each, are int64.
MAX_STEPS = 2**31 - 1
MAX_EXAMPLES = 2**24  # of a batch
_FORM = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,20})?)(ep|st|min)")


@dataclasses.dataclass(frozen=True)
class Duration:
    """A number of epochs or minutes (any fraction) or of steps (whole). Minutes are measured before they are anything else."""

    amount: Fraction
    unit: str

    @classmethod
    def parse(cls, text: str, flag: str, positive: bool = False, minutes: bool = False) -> Duration:
        """`text` as --`flag` has it; CannotRun, a sentence, if it is no duration, or zero where it has to be `positive`."""
        match = _FORM.fullmatch(text)
        if not match or (match[2] == "st" and "." in match[1]) or (match[2] == "min" and not minutes):
            of_time = ", minutes of training as 30min," if minutes else ""
            raise exits.CannotRun(
                f"--{flag}={shortened(text)} is not a duration; write epochs as 10ep (fractions are fine){of_time} or whole"
                " steps as 600st, below 1,000,000,000,000."
            )
        amount = Fraction(match[1])
        if match[2] == "st" and amount > MAX_STEPS:
            raise impossible(flag, text, f"give at most {MAX_STEPS:,} steps")
        if positive and not amount:
            raise impossible(flag, text, "give a duration above zero")
        return cls(amount, match[2])

    @property
    def in_minutes(self) -> bool:
        return self.unit == "min"

    def doubled(self) -> str:
        """Twice the duration, as a flag has it."""
        amount = 2 * self.amount
        return f"{amount.numerator if amount.denominator == 1 else float(amount)}{self.unit}"

    def times_at(self, step: int, clock: Clock) -> int:
        """How many times the duration has passed before a step."""
        if self.unit == "st":
            return math.floor(step / self.amount)
        return math.floor(clock.position(step) / self._examples(clock))

    def boundary(self, times: int, clock: Clock) -> int:
        """The step at which the duration has passed `times` times."""
        if self.unit == "st":
            return times * int(self.amount)
        return clock.step_at(times * self._examples(clock))

    def steps(self, clock: Clock) -> int:
        """The duration in steps, from the first on."""
        return self.boundary(1, clock)

    def next_after(self, step: int, clock: Clock) -> int:
        """The first boundary after `step`."""
        return self.boundary(self.times_at(step, clock) + 1, clock)

    def _examples(self, clock: Clock) -> Fraction:
        assert not self.in_minutes, "minutes are made steps of before anybody asks"
        return self.amount * clock.epoch
