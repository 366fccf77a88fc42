"""The screen of a run: a block at the start, a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from convoy import terminal
from convoy.outside import printable

PLAIN_SECONDS = 30.0


class Display:
    """Prints to stdout, unless it is quiet; the bar only shows on a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        out = terminal.unguarded(sys.stdout)
        self.console = Console(file=out, highlight=False, emoji=False, soft_wrap=True, quiet=quiet)
        self._bar: Progress | None = None
        self._shown = time.monotonic()

    def block(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """The start-up block: a name and a value a line."""
        self.console.print(printable(title), style="bold", markup=False)
        table = Table.grid(padding=(0, 2))
        for name, value in rows:
            table.add_row(f"  {name}", Text(printable(value)))  # a directory may be called [bold]
        self.console.print(table)

    def line(self, text: str) -> None:
        """A line that stays, above the bar if there is one."""
        self.console.print(printable(text, keep="\n"), markup=False)

    def start(self, total: int, step: int) -> Display:
        """Opens the bar at `step` of `total` steps; use as a context."""
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]:.1f}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[status]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                expand=True,
            )
            self._task = self._bar.add_task("", total=total, completed=step, epoch=0.0, status="starting")
        return self

    def update(self, step: int, epoch: float, images_per_second: float, wait: float | None, loss: float) -> None:
        """Moves the bar; without a terminal, prints a plain line every half minute."""
        status = f"loss {loss:.3f}  {images_per_second:,.0f} images/s"
        if wait is not None:
            status += f"  {wait:.0%} input wait"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, status=status)
        elif time.monotonic() - self._shown > PLAIN_SECONDS:
            self._shown = time.monotonic()
            self.line(f"  epoch {epoch:>5.1f}  step {step:>6}  {status}")

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
            terminal.guard()  # before the streams that the bar put in the place of ours, to draw below what is printed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
