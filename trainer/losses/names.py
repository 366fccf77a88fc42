"""The losses: a row for each name that --loss may begin with. Imports nothing heavy.

A row's target takes its numbers, then the fraction of label smoothing and the frequencies of the classes; see build.py.
"""

from __future__ import annotations

import dataclasses

from convoy.bounds import real
from convoy.table import Table
from convoy.trainer.flags import numbered
from convoy.trainer.flags.numbered import NumberedEntry, NumberedSpec

_POSITIVE = real(0, above=True)


@dataclasses.dataclass(frozen=True)
class LossEntry(NumberedEntry):
    """A row.

    Args:
      needs_every_class: an epoch of the stream has to show every class.
    """

    needs_every_class: bool = False


def _one_positive(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 1 and _POSITIVE.holds(numbers[0])


def _one_fraction(numbers: tuple[float, ...]) -> bool:
    return len(numbers) == 1 and 0 < numbers[0] < 1


LOSSES: Table[LossEntry] = Table(
    "loss",
    {
        "cross_entropy": LossEntry("convoy.trainer.losses.build:plain", "every example alike"),
        "focal": LossEntry(
            "convoy.trainer.losses.build:focal",
            "less weight on examples that are right already; GAMMA is 2 unless given",
            source="Lin et al. 2017",
            argument="GAMMA",
            default=(2.0,),
            accepts=_one_positive,
            remedy=f"give one number above 0, {_POSITIVE}, for example focal:1.5",
        ),
        "weighted": LossEntry(
            "convoy.trainer.losses.build:weighted",
            "each class by 1 / the effective number of its examples; weighted:inverse by 1 / their number",
            source="Cui et al. 2019",
            argument="BETA",
            default=(1.0,),  # where the effective number of examples becomes their number
            accepts=_one_fraction,
            remedy="give weighted:inverse, or a beta between 0 and 1, for example weighted:0.999",
            words={"inverse": (1.0,)},
        ),
        "balanced_softmax": LossEntry(
            "convoy.trainer.losses.build:logit_adjusted",
            "logits + log frequency, which is logit_adjusted:1",
            source="Ren et al. 2020",
            default=(1.0,),
            needs_every_class=True,
        ),
        "logit_adjusted": LossEntry(
            "convoy.trainer.losses.build:logit_adjusted",
            "logits + TAU * log frequency; TAU is 1 unless given",
            source="Menon et al. 2021",
            argument="TAU",
            default=(1.0,),
            accepts=_one_positive,
            remedy=f"give one number above 0, {_POSITIVE}, for example logit_adjusted:1.5",
            needs_every_class=True,
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class LossSpec(NumberedSpec):
    """--loss, parsed."""

    @classmethod
    def parse(cls, text: str) -> LossSpec:
        return numbered.parse(cls, LOSSES, "loss", text)
