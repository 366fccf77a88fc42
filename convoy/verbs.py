"""Commands and verbs: one dispatcher for `convoy` and for every command below it.

A command has a table of rows. The target of a row is a Verb, or another Command, whose module is imported only when a person
gives its name. A verb lists its flags, so --help and the tests of the documentation keep no list of their own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from convoy import entry, exits, help_text, options, supervise
from convoy.table import Entry, Table, near

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Verb(Generic[C]):
    """One verb: its flags, and the function that does its work.

    Args:
      usage: the first lines of --help.
      flags: the classes whose fields are its flags; a function returns a class that depends on a table.
      parse: argv -> what `work` takes; raises for flags that are impossible.
      work: returns the exit code, or None for 0.
      of_train: flags that it shares with `convoy train`, whose --help lists them.
    """

    usage: str
    flags: tuple[type | Callable[[], type], ...]
    parse: Callable[[list[str]], C]
    work: Callable[[C], int | None]
    _: dataclasses.KW_ONLY
    of_train: tuple[type, ...] = ()

    def classes(self) -> list[type]:
        """All its flags."""
        return [*self._own(), *self.of_train]

    def __call__(self, argv: list[str]) -> int:
        """Runs the verb, or prints its --help; returns the exit code."""
        own = argv[: argv.index("--")] if "--" in argv else argv  # the rest is for the run that a job starts
        asked = help_text.wanted(own)
        if asked is not None:
            print(help_text.about(asked, *self.classes()) if asked else self._help())
            return exits.OK
        return self._run(argv)

    def _own(self) -> list[type]:
        return [flags if isinstance(flags, type) else flags() for flags in self.flags]

    def _help(self) -> str:
        text = help_text.of_verb(self.usage, *self._own())
        return (
            f"{text}\n\nIt takes the flags of a run too, which `convoy train --help` lists." if self.of_train else text
        )

    def _run(self, argv: list[str]) -> int:
        return self.work(self.parse(argv)) or exits.OK


def verb(usage: str, *flags: type | Callable[[], type]) -> Callable[[Callable[..., int | None]], Verb]:
    """A decorator: the function becomes a verb, called with an object of each of the classes."""

    def decorate(work: Callable[..., int | None]) -> Verb:
        def parse(argv: list[str]) -> list[object]:
            classes = decorated.classes()
            values = options.parse(argv, *classes)
            return [cls(**options.take(cls, values)) for cls in classes]

        decorated = Verb(usage, flags, parse, lambda parsed: work(*parsed))
        return decorated

    return decorate


@dataclasses.dataclass(frozen=True)
class ChildVerb(Verb[C]):
    """A verb that works in a child process, where what it imports may hang or crash.

    Args:
      module: where it is defined; `python -m` runs that as the child, which calls `child`.
    """

    module: str

    def _run(self, argv: list[str]) -> int:
        """The parent: refuses a wrong flag at once, and returns the child's exit code."""
        self.parse(argv)
        return supervise.run(supervise.module(self.module, argv))

    def child(self) -> None:
        """The child; ends the process."""

        def work() -> int:
            supervise.follow_parent()
            return self.work(self.parse(sys.argv[1:])) or exits.OK

        entry.call(work)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of several verbs.

    Args:
      program: the words that a person writes before a verb.
      usage: what --help prints; {verbs} stands for the lines of the table.
      table: verb -> a row whose target is a Verb or a Command.
    """

    program: str
    usage: str
    table: Table[Entry]

    def __call__(self, argv: list[str]) -> int:
        """Opens the verb that argv begins with, or prints the usage; UsageError for an unknown verb."""
        if not argv or argv[0] == "help" or help_text.wanted(argv[:1]) is not None:
            print(self.usage.format(verbs=self.table.lines()))
            return exits.OK
        name, *rest = argv
        if name not in self.table:
            remedy = near(name, self.table, form=f"`{self.program} {{}}`")
            raise exits.UsageError(f"there is no `{self.program} {name}`; {remedy}")
        opened: Verb | Command = self.table.load(name)
        return opened(rest)

    def verbs(self) -> Iterator[tuple[str, Verb]]:
        """Every verb below this command, with the words that a person writes for it."""
        for name in self.table:
            opened: Verb | Command = self.table.load(name)
            if isinstance(opened, Command):
                yield from opened.verbs()
            else:
                yield f"{self.program} {name}", opened
