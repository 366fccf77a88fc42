"""--recipe=NAME: the flags of recipes/NAME.flags, before those of a person, which win. Imports nothing heavy.

A recipe is a flagfile: a first paragraph of comments says what it is, and the comment above each flag why it has its value.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from convoy import exits, flagfiles, options
from convoy.options import option
from convoy.table import Entry, Table

FOLDER = Path(flagfiles.__file__).parent / "recipes"
_FLAG = re.compile(r"--?recipe(?:=(.*))?", re.DOTALL)
_NAMED = re.compile(r"--?(no)?([a-z_0-9]+)")


@dataclasses.dataclass(frozen=True)
class Line:
    """A flag as a recipe has it, for example --batch_size=64, and why."""

    flag: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe.

    Attributes:
      head: its first paragraph, a line each.
      lines: its flags, in order.
    """

    head: tuple[str, ...]
    lines: tuple[Line, ...]


def read(name: str) -> Recipe:
    """The recipe of a name in `table`."""
    head, _, rest = (FOLDER / f"{name}.flags").read_text().partition("\n\n")
    lines, reason = [], []
    for text in rest.splitlines():
        if text.startswith("#"):
            reason.append(text.lstrip("# "))
        elif text:
            lines.append(Line(text, " ".join(reason)))
            reason = []
    return Recipe(tuple(text.removeprefix("#").removeprefix(" ") for text in head.splitlines()), tuple(lines))


@functools.cache
def table() -> Table[Entry]:
    """name -> the first line of its recipe."""
    names = sorted(path.stem for path in FOLDER.glob("*.flags"))
    return Table("recipe", {name: Entry("", read(name).head[0].rstrip(".")) for name in names})


def _check(name: str) -> None:
    if name and name not in table():
        raise options.impossible("recipe", name, table().near(name))


@dataclasses.dataclass(frozen=True)
class RecipeFlag:
    """--recipe, for --help and for Python: `inlined` leaves none to parse."""

    recipe: str = option(
        "",
        lambda: f"flags with a reason for each, which is printed; those that you give win. {table().help()}.",
        group="Run",
        check=_check,
    )


def inlined(argv: Sequence[str]) -> list[str]:
    """argv with the flags of its recipe at its beginning, and with those of its flagfiles in their places.

    Raises:
      exits.UsageError: there are two recipes, or a flagfile cannot be read.
      exits.CannotRun: there is no such recipe.
    """
    name, words = _split(argv)
    return [*(line.flag for line in read(name).lines), *words] if name else words


def explained(argv: Sequence[str]) -> list[str]:
    """What --recipe sets, as lines for a person: each flag with its reason, or with the value that was given instead."""
    name, words = _split(argv)
    if not name:
        return []
    recipe, given = read(name), {_name(word): word for word in words}
    width = max(len(line.flag) for line in recipe.lines)
    shown = [f"--recipe={name}: {' '.join(text for text in recipe.head if not text.startswith(' '))}"]
    for line in recipe.lines:
        word = given.get(_name(line.flag))
        replaced = f"(you gave {options.shortened(word)}) " if word and word != line.flag else ""
        shown.append(f"  {line.flag:<{width}}  {replaced}{line.reason}")
    return shown


def _split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """(the recipe's name, "" for none; all other words, flagfiles inlined)."""
    names: list[str] = []
    rest = list(_without(flagfiles.inlined(argv), names))
    if len(names) > 1:
        raise exits.UsageError(
            f"--recipe={options.shortened(names[1])} is the second recipe; give one, and flags for the rest."
        )
    name = names[0] if names else ""
    _check(name)
    return name, rest


def _without(argv: Sequence[str], names: list[str]) -> Iterator[str]:
    """The words but for --recipe, whose values go into `names`."""
    words = iter(argv)
    for word in words:
        if word == "--":
            yield word
            yield from words
        elif match := _FLAG.fullmatch(word):
            names.append(match[1] if match[1] is not None else next(words, ""))
        else:
            yield word


def _name(word: str) -> str:
    """The name of the flag that a word sets; a switch has the same with `no` before it."""
    match = _NAMED.match(word)
    return match[2] if match else ""
