"""--sweep, parsed: FLAG=VALUE,VALUE;FLAG=FIRST:PAST_THE_LAST -> the points of a grid."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator

from convoy import exits

MAX_JOBS = 10_000
_FORM = "FLAG=VALUE,VALUE or FLAG=FIRST:PAST_THE_LAST"
_FLAG = re.compile(r"[\s;]*+(?P<flag>[^\s=;]+)\s*=")
# A quote opens a value and closes it; elsewhere it is a character like any other, as in it's.
_VALUE = re.compile(r"""\s*+(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>(?!["'])[^,;]*?))\s*(?P<end>[,;]|\Z)""")
_RANGE = re.compile(r"(-?\d{1,18}):(-?\d{1,18})", re.ASCII)


def joined(argv: list[str]) -> list[str]:
    """The flags with --sweep=A --sweep=B, or --sweep A, joined into one: --sweep=A;B."""
    rest = []
    axes = []
    words = iter(argv)
    for word in words:
        if word in ("--sweep", "-sweep"):
            axes.append(next(words, ""))
        elif word.startswith(("--sweep=", "-sweep=")):
            axes.append(word.partition("=")[2])
        else:
            rest.append(word)
    if not all(axes):
        raise exits.UsageError(f"--sweep is empty; give {_FORM}.")
    return [*rest, f"--sweep={';'.join(axes)}"] if axes else rest


def points(text: str) -> list[tuple[tuple[str, str], ...]]:
    """The combinations, each a tuple of (flag, value), in the order of the text; one empty point for no text.

    Raises:
      exits.UsageError: `text` has another form.
      exits.CannotRun: more than MAX_JOBS points.
    """
    axes: dict[str, list[tuple[str, str]]] = {}
    for flag, values in _axes(text):
        if flag in axes:
            raise exits.UsageError(f"--sweep={text} has {flag} twice; give all of its values at once.")
        axes[flag] = [(flag, value) for value in values]
    _check_count(text, math.prod(map(len, axes.values())))
    return list(itertools.product(*axes.values()))


def _axes(text: str) -> Iterator[tuple[str, list[str]]]:
    """Flag and values of each axis."""
    position = 0
    while rest := text[position:].strip("; "):
        match = _FLAG.match(text, position)
        if not match or not match["flag"].isidentifier():
            raise exits.UsageError(f"--sweep={text}: `{rest.partition(';')[0]}` is not {_FORM}.")
        values, position = _values(text, match.end())
        if not values:
            raise exits.UsageError(f"--sweep={text}: {match['flag']} has a range without numbers; give {_FORM}.")
        yield match["flag"], values


def _values(text: str, position: int) -> tuple[list[str], int]:
    """The values of an axis, and where the next axis begins. Blanks around a value are no part of it."""
    values, bare, end = list[str](), None, ","
    while end == ",":
        match = _VALUE.match(text, position)
        if not match:
            raise exits.UsageError(
                f"--sweep={text}: a value in quotes ends with the quote; `{text[position:].strip()}` has none there."
            )
        bare = match["bare"]
        if bare == "":
            raise exits.UsageError(
                f'--sweep={text} has an empty value; give {_FORM}, and "" for a text of no characters.'
            )
        values += [value for value in (match["double"], match["single"], bare) if value is not None]
        position, end = match.end(), match["end"]
    if len(values) == 1 and bare and (numbers := _RANGE.fullmatch(bare)):
        span = range(int(numbers[1]), int(numbers[2]))
        _check_count(text, len(span))
        values = [str(number) for number in span]
    return values, position


def _check_count(text: str, count: int) -> None:
    if count > MAX_JOBS:
        raise exits.CannotRun(f"--sweep={text} is {count:,} jobs, and {MAX_JOBS:,} are possible; give fewer values.")
