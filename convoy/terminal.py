"""What we print is shown, never obeyed: names, texts of errors and lines of logs come from strangers too.

`guard` puts a filter before stdout and stderr of a process, which `print`, warnings and tracebacks pass, and has both outlast
their readers (streams.py); entry.call does so for every process of ours. Who draws with escape sequences, as rich does, takes
the stream behind it (`unguarded`) and makes what it shows `printable`. What a child writes to stderr from C++ passes a `Lines`
in its parent (noise.py).
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any, TextIO, cast

from convoy import streams
from convoy.outside import printable

# tqdm, with which TensorFlow Datasets downloads, draws bars by going to the beginning of a line, and up by one.
_MOVES = re.compile("(\r?\n|\r|\x1b\\[A)")
_BAR = re.compile(r"\[[0-9:]+[<,][^\[\]]*\] *$")  # how one of its bars ends
_WIDEST = 1000


class Lines:
    """What goes to a stderr, as it comes, made printable but for line breaks, tabs, and how progress bars move.

    A move stays one where it leads over bars and empty lines: nothing else that was said is ever written over.
    """

    def __init__(self) -> None:
        self._line = ""  # the one that is being written, so far
        self._above = 0  # so many bars and empty lines are right above it

    def shown(self, text: str) -> str:
        return "".join(map(self._part, _MOVES.split(text)))

    def _part(self, part: str) -> str:
        if part.endswith("\n"):
            self._above = self._above + 1 if self._is_free() else 0
        elif part == "\x1b[A" and self._above and self._is_free():
            self._above -= 1
        elif part != "\r" or not self._is_free():
            part = printable(part, keep="\t")
            self._line = (self._line + part)[:_WIDEST]
            return part
        self._line = ""
        return part

    def _is_free(self) -> bool:
        """Whether the line may be written over."""
        return len(self._line) < _WIDEST and (not self._line.strip(" ") or bool(_BAR.search(self._line)))


def guard() -> None:
    """From now on stdout and stderr of this process show control characters, lone surrogates and the like as escapes, and lose
    without an error what nobody reads any more."""
    if not isinstance(sys.stdout, _Guarded):
        sys.stdout = cast(TextIO, _Guarded(streams.lasting(sys.stdout, 1), lambda text: printable(text, keep="\n\t")))
    if not isinstance(sys.stderr, _Guarded):
        sys.stderr = cast(TextIO, _Guarded(streams.lasting(sys.stderr, 2), Lines().shown))


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind a guard, or the stream itself."""
    return stream.behind if isinstance(stream, _Guarded) else stream


class _Guarded:
    """A text stream; all but what is written goes to the one behind it."""

    def __init__(self, behind: TextIO, show: Any):
        self.behind, self._show = behind, show
        with contextlib.suppress(AttributeError, ValueError):
            cast(TextIOWrapper, behind).reconfigure(errors="backslashreplace")  # of a terminal that is no UTF-8

    def write(self, text: str) -> int:
        self.behind.write(self._show(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)
