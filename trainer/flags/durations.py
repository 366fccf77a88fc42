"""Durations of training: `10ep` are epochs, `600st` steps, and `30min` minutes, of which --duration alone may be."""

from __future__ import annotations

import dataclasses
import math
import re
from fractions import Fraction

from convoy import exits
from convoy.options import impossible, shortened

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

    def examples(self, epoch: int, batch_size: int) -> Fraction:
        """The duration in examples, where an epoch has `epoch` of them; need not be a whole number."""
        assert not self.in_minutes, "minutes are made steps of before anybody asks"
        return self.amount * (batch_size if self.unit == "st" else epoch)

    def times_at(self, position: int, epoch: int, batch_size: int) -> int:
        """How many times the duration has passed at a position of the training stream."""
        return math.floor(position / self.examples(epoch, batch_size))

    def boundary(self, times: int, epoch: int, batch_size: int) -> int:
        """The step at which the duration has passed `times` times."""
        return steps_of(times * self.examples(epoch, batch_size), batch_size)

    def steps(self, epoch: int, batch_size: int) -> int:
        """The duration in steps."""
        return self.boundary(1, epoch, batch_size)

    def next_after(self, step: int, epoch: int, batch_size: int) -> int:
        """The first boundary after `step`."""
        return self.boundary(self.times_at(step * batch_size, epoch, batch_size) + 1, epoch, batch_size)


def steps_of(examples: Fraction, batch_size: int) -> int:
    """How many steps train on so many examples: the last one may go beyond them."""
    return math.ceil(examples / batch_size)
