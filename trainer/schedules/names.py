"""The schedules: a row for each name that --schedule may begin with. Imports nothing heavy.

A row's target takes a moment of the run and the row's numbers, and returns the fraction of the peak; see formulas.py.
"""

from __future__ import annotations

import dataclasses

from convoy.bounds import real
from convoy.table import Table
from convoy.trainer.flags import numbered
from convoy.trainer.flags.numbered import NumberedEntry, NumberedSpec

_POSITIVE, _RATE = real(0, above=True), real(0)
_FRACTION = real(0, 1, above=True)
_LOW = real(0, 1, above=True, below=True)


def _power_and_end(numbers: tuple[float, ...]) -> bool:
    return len(numbers) in (1, 2) and _POSITIVE.holds(numbers[0]) and all(map(_RATE.holds, numbers[1:]))


def _rising_fractions(numbers: tuple[float, ...]) -> bool:
    return all(0 < number < 1 for number in numbers) and list(numbers) == sorted(set(numbers))


def _one_fraction(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 1 and _FRACTION.holds(numbers[0])


def _one_low(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 1 and _LOW.holds(numbers[0])


@dataclasses.dataclass(frozen=True)
class ScheduleEntry(NumberedEntry):
    """A row.

    Args:
      cools: whether its first number is the part of the whole run, at its end, in which the rate falls.
      ends: whether its second number is the learning rate that it ends with.
    """

    cools: bool = False
    ends: bool = False


SCHEDULES: Table[ScheduleEntry] = Table(
    "schedule",
    {
        "constant": ScheduleEntry("convoy.trainer.schedules.formulas:constant", "the peak until the end"),
        "cosine": ScheduleEntry(
            "convoy.trainer.schedules.formulas:cosine", "half a cosine down to 0", source="Loshchilov & Hutter 2017"
        ),
        "linear": ScheduleEntry("convoy.trainer.schedules.formulas:linear", "a line down to 0"),
        "polynomial": ScheduleEntry(
            "convoy.trainer.schedules.formulas:polynomial",
            "the remaining fraction of the run to this power, 2 unless given, down to the learning rate END, 0 unless given",
            argument="POWER,END",
            default=(2.0,),
            accepts=_power_and_end,
            remedy=f"give one power above 0, {_POSITIVE}, and behind a comma a last learning rate, for example polynomial:2 or"
            " polynomial:2,1e-4",
            ends=True,
        ),
        "step": ScheduleEntry(
            "convoy.trainer.schedules.formulas:step",
            "a tenth at each of these fractions of the run, thirds unless given",
            source="He et al. 2016",
            argument="F1,F2,...",
            default=(1 / 3, 2 / 3),
            accepts=_rising_fractions,
            remedy="give rising fractions of the run, for example step:0.33,0.67,0.9",
        ),
        "trapezoid": ScheduleEntry(
            "convoy.trainer.schedules.formulas:trapezoid",
            "the peak, then a line down to 0 over this last fraction of the run, 0.2 unless given",
            source="Zhai et al. 2022",
            argument="FRACTION",
            default=(0.2,),
            accepts=_one_fraction,
            remedy=f"give the part of the run in which the rate falls, {_FRACTION}, for example trapezoid:0.2",
            cools=True,
        ),
        "wsd": ScheduleEntry(
            "convoy.trainer.schedules.formulas:wsd",
            "the peak, then 1 - sqrt(t) of it over this last fraction of the run, 0.1 unless given",
            source="Hu et al. 2024, Hägele et al. 2024",
            argument="FRACTION",
            default=(0.1,),
            accepts=_one_fraction,
            remedy=f"give the part of the run in which the rate falls, {_FRACTION}, for example wsd:0.1",
            cools=True,
        ),
        "rising": ScheduleEntry(
            "convoy.trainer.schedules.formulas:rising",
            "from this part of the peak up to it, by the same factor every step, 1e-6 unless given: what --find_lr trains with",
            source="Smith 2017",
            argument="LOW",
            default=(1e-6,),
            accepts=_one_low,
            remedy=f"give the part of the peak to begin with, {_LOW}, for example rising:1e-6",
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class ScheduleSpec(NumberedSpec):
    """--schedule, parsed."""

    @classmethod
    def parse(cls, text: str) -> ScheduleSpec:
        return numbered.parse(cls, SCHEDULES, "schedule", text)

    @property
    def cooldown(self) -> float:
        """The part of the whole run, at its end, in which the rate falls; 0 where that begins after warm-up."""
        return self.numbers[0] if SCHEDULES[self.kind].cools else 0.0

    @property
    def end(self) -> float:
        """The learning rate that it ends with, where that was said; else 0."""
        return self.numbers[1] if SCHEDULES[self.kind].ends and len(self.numbers) > 1 else 0.0
