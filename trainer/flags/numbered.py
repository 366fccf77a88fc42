"""Names that numbers may follow, as in `focal:1.5` and `step:0.3,0.6`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from convoy import bounds
from convoy.options import impossible
from convoy.table import Entry, Table


@dataclasses.dataclass(frozen=True)
class NumberedEntry(Entry):
    """A row whose target takes numbers.

    Args:
      default: the numbers where a person gives none.
      accepts: whether the target takes these numbers; None: a person can give none.
      remedy: what to give in place of numbers that it does not take.
      words: texts that stand for numbers.
    """

    default: tuple[float, ...] = ()
    accepts: Callable[[tuple[float, ...]], bool] | None = None
    remedy: str = ""
    words: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class NumberedSpec:
    """A flag of this kind, parsed.

    Attributes:
      text: as a person wrote it.
      kind: the name of the row.
      numbers: the arguments of the row's target.
    """

    text: str
    kind: str
    numbers: tuple[float, ...]

    def __str__(self) -> str:
        return self.text


S = TypeVar("S", bound=NumberedSpec)
R = TypeVar("R", bound=NumberedEntry)


def parse(spec: type[S], table: Table[R], flag: str, text: str) -> S:
    """--`flag` -> a spec; CannotRun, a sentence, for an unknown name and for numbers that its row does not take."""
    kind, colon, rest = text.partition(":")
    if kind not in table:
        raise impossible(flag, text, table.near(kind))
    row = table[kind]
    if not colon:
        return spec(text, kind, row.default)
    if rest in row.words:
        return spec(text, kind, row.words[rest])
    if row.accepts is None:
        raise impossible(flag, text, f"{kind} takes no numbers")
    try:
        numbers = tuple(bounds.number(number) for number in rest.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not row.accepts(numbers):
        raise impossible(flag, text, row.remedy)
    return spec(text, kind, numbers)
