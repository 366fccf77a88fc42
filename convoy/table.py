"""One row for a name: what a person may write in a flag, what it opens, and one line of help.

A table holds texts and numbers only, so flags, validation and documents read it without importing what it names:

    @dataclasses.dataclass(frozen=True)
    class Optimizer(Entry):
        learning_rate: float = 0.001  # what a row of this table needs beyond every row's

    OPTIMIZERS = Table("optimizer", {"lars": Optimizer("convoy.trainer.optimizers.lars:lars", "layer-wise rates")})

    OPTIMIZERS["lars"].learning_rate  # imports nothing
    OPTIMIZERS.load("lars")  # imports the module, and returns the function
"""

from __future__ import annotations

import dataclasses
import difflib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row. A table whose rows need more declares a subclass with more fields.

    Args:
      target: "module:function", imported by `Table.load`; "" where the name alone decides.
      help: one line, for --help and the documentation.
      source: the paper or page that the implementation follows, for example "Lin et al. 2017".
      argument: what follows the name and a colon, as --help writes it: "POWER"; "" for a name that stands alone.
      options: flags that have a meaning for this row, and for no row that does not list them.
    """

    target: str
    help: str
    _: dataclasses.KW_ONLY
    source: str = ""
    argument: str = ""
    options: tuple[str, ...] = ()


ALIKE = 0.65  # below it they are different words: weights and weight_decay
_BEGINNING = 3  # letters that stand for a whole name

E = TypeVar("E", bound=Entry)


class Table(Mapping[str, E], Generic[E]):
    """name -> row, in the order of --help.

    Args:
      kind: the noun for one of these names, for sentences: "optimizer".
      rows: the names and their rows.
    """

    def __init__(self, kind: str, rows: Mapping[str, E]) -> None:
        self.kind = kind
        self.rows = dict(rows)

    def __getitem__(self, name: str) -> E:
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, name: str) -> Any:
        """Imports what the row's target names, and returns it."""
        return pkgutil.resolve_name(self.rows[name].target)

    def near(self, name: str) -> str:
        """Completes the refusal of an unknown name: `did you mean adam?`, or all names."""
        return near(name, self.rows)

    def syntax(self, name: str) -> str:
        """How a person writes the name: polynomial:POWER."""
        argument = self.rows[name].argument
        return f"{name}:{argument}" if argument else name

    def help(self) -> str:
        """`name: its line of help (its source)`, joined into one text for a flag."""
        rows = self.rows.items()
        return "; ".join(
            f"{self.syntax(name)}: {row.help}{f' ({row.source})' * bool(row.source)}" for name, row in rows
        )

    def lines(self) -> str:
        """A line a row, names and help in two columns, for the --help of a command."""
        width = max(map(len, self.rows))
        return "\n".join(f"  {name:<{width}}  {row.help}" for name, row in self.rows.items())

    def with_option(self, flag: str) -> list[str]:
        """The names whose rows take this flag."""
        return [name for name, row in self.rows.items() if flag in row.options]


def closest(name: str, names: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `count` of `names` that are spelled almost like `name`, in any case, the best first."""
    by_letters = {other.lower(): other for other in names}
    return [by_letters[match] for match in difflib.get_close_matches(name.lower(), by_letters, n=count, cutoff=cutoff)]


def near(name: str, names: Iterable[str], otherwise: str = "", form: str = "{}") -> str:
    """The remedy for an unknown name: `did you mean X?`, or `there are A, B.`

    Args:
      otherwise: said in place of the list where no name is close.
      form: how a name is written, for example "--{}".
    """
    names = list(names)
    beginning = [other for other in names if len(name) >= _BEGINNING and other.startswith(name)]
    if close := closest(name, names, cutoff=ALIKE) or beginning:
        return f"did you mean {form.format(close[0])}?"
    return otherwise or f"there are {', '.join(names)}."


def joined(names: Iterable[str], conjunction: str) -> str:
    """`a, b or c`: the names as a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} {conjunction} {last}" if first else last
