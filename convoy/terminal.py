"""What we print is shown, never obeyed: names, texts of errors and lines of logs come from strangers too.

`guard` puts a filter before stdout and stderr of a process, which `print`, warnings and tracebacks pass; exits.call does so for
every process of ours. Who draws with escape sequences, as rich does, takes the stream behind it (`unguarded`) and makes what it
shows `printable`. What a child writes to stderr from C++ passes `shown` in its parent (noise.py).
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from typing import Any, TextIO, cast

from convoy.outside import printable

# tqdm, with which TensorFlow Datasets downloads, draws bars by going to the beginning of a line, and up by one.
_BARS = re.compile("(\x1b\\[A)")


def shown(text: str) -> str:
    """Text for stderr: printable, but for line breaks, tabs, and how progress bars move."""
    if text.isprintable():
        return text
    parts = _BARS.split(text)
    return "".join(part if place % 2 else printable(part, keep="\n\t\r") for place, part in enumerate(parts))


def guard() -> None:
    """From now on stdout and stderr of this process show control characters, lone surrogates and the like as escapes."""
    if not isinstance(sys.stdout, _Guarded):
        sys.stdout = cast(TextIO, _Guarded(sys.stdout, lambda text: printable(text, keep="\n\t")))
    if not isinstance(sys.stderr, _Guarded):
        sys.stderr = cast(TextIO, _Guarded(sys.stderr, shown))


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
