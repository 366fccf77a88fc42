"""The schedules: a row for each name that --schedule may begin with. Imports nothing heavy.

A row's target takes a moment of the run and the row's numbers, and returns the fraction of the peak; see formulas.py.
"""

from __future__ import annotations

import dataclasses

from convoy.bounds import real
from convoy.table import Table
from convoy.trainer.flags import numbered
from convoy.trainer.flags.numbered import NumberedEntry, NumberedSpec

_POSITIVE = real(0, above=True)


def _one_positive(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 1 and _POSITIVE.holds(numbers[0])


def _rising_fractions(numbers: tuple[float, ...]) -> bool:
    return all(0 < number < 1 for number in numbers) and list(numbers) == sorted(set(numbers))


SCHEDULES: Table[NumberedEntry] = Table(
    "schedule",
    {
        "constant": NumberedEntry("convoy.trainer.schedules.formulas:constant", "the peak until the end"),
        "cosine": NumberedEntry(
            "convoy.trainer.schedules.formulas:cosine", "half a cosine down to 0", source="Loshchilov & Hutter 2017"
        ),
        "linear": NumberedEntry("convoy.trainer.schedules.formulas:linear", "a line down to 0"),
        "polynomial": NumberedEntry(
            "convoy.trainer.schedules.formulas:polynomial",
            "the remaining fraction of the run to this power, 2 unless given",
            argument="POWER",
            default=(2.0,),
            accepts=_one_positive,
            remedy=f"give one power above 0, {_POSITIVE}, for example polynomial:2",
        ),
        "step": NumberedEntry(
            "convoy.trainer.schedules.formulas:step",
            "a tenth at each of these fractions of the run, thirds unless given",
            source="He et al. 2016",
            argument="F1,F2,...",
            default=(1 / 3, 2 / 3),
            accepts=_rising_fractions,
            remedy="give rising fractions of the run, for example step:0.33,0.67,0.9",
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class ScheduleSpec(NumberedSpec):
    """--schedule, parsed."""

    @classmethod
    def parse(cls, text: str) -> ScheduleSpec:
        return numbered.parse(cls, SCHEDULES, "schedule", text)
