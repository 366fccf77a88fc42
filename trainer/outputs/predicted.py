"""Predictions on the screen or in a file, as they come: tables, lines of JSON, or CSV; and how far they are."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from convoy.outside import printable
from convoy.trainer.outputs.status import WATCHED_SECONDS, let_watch
from convoy.trainer.outputs.tables import text_table
from convoy.trainer.predictions import HEADINGS, Prediction

Add = Callable[[Prediction], None]  # takes predictions in order

_ROWS = 1000  # of a table: the first files are seen before the last are read
_FLUSH_SECONDS = 1.0
_PLAIN_SECONDS = 30.0


@contextlib.contextmanager
def tables(console: Console) -> Iterator[Add]:
    """Tables for a person, each of a thousand files at most."""
    rows = list[tuple[str, ...]]()

    def show() -> None:
        if console.is_terminal:
            console.print(_table(rows))
        else:  # nothing is folded where nobody looks
            console.print(text_table(HEADINGS, rows), markup=False, soft_wrap=True)
        rows.clear()

    def add(prediction: Prediction) -> None:
        rows.append(prediction.described())
        if len(rows) == _ROWS:
            show()

    try:
        yield add
    finally:
        if rows:
            show()


@contextlib.contextmanager
def lines(file: TextIO, line: Callable[[Prediction], str], head: str = "") -> Iterator[Add]:
    """A line for each prediction, behind a head if there is one; whoever reads along waits for a second at most."""
    flushed = time.monotonic()
    file.write(f"{head}\n" if head else "")

    def add(prediction: Prediction) -> None:
        nonlocal flushed
        file.write(f"{line(prediction)}\n")
        if time.monotonic() - flushed > _FLUSH_SECONDS:
            file.flush()
            flushed = time.monotonic()

    yield add
    file.flush()


def watched(predictions: Iterable[Prediction], total: int, console: Console, bar: bool) -> Generator[Prediction]:
    """The same predictions, with a bar on the console, or else a line on stderr every half minute and for who watches."""
    if bar:
        with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
            yield from progress.track(predictions, total, description="Predicting")
        return
    said = shown = time.monotonic()
    for number, prediction in enumerate(predictions, 1):
        yield prediction
        now = time.monotonic()
        if now - shown >= WATCHED_SECONDS or number == total:
            shown = now
            let_watch({"step": number, "total": total})
        if now - said > _PLAIN_SECONDS:
            said = now
            print(f"  {number:,} of {total:,} files", file=sys.stderr, flush=True)


class Unread:
    """Counts the files that could not be read."""

    def __init__(self) -> None:
        self.files = self.unread = 0
        self._first = ""

    def count(self, prediction: Prediction) -> None:
        self.files += 1
        if prediction.error:
            self.unread += 1
            self._first = self._first or f"{printable(prediction.file)} {printable(prediction.error)}"

    def sentence(self) -> str:
        """What there is to say of them; "" if all could be read."""
        if not self.unread:
            return ""
        if self.files == 1:
            return f"{self._first}."
        many = "none" if self.unread == self.files else f"{self.unread:,}"
        could = "could" if self.unread == self.files else "could not"
        first = "the first: " if self.unread > 1 else ""
        return f"{many} of the {self.files:,} files {could} be read; {first}{self._first}."


def _table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # a class may be called [bold]
    return table
