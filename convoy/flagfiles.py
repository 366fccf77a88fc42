"""--flagfile=FILE: the flags of a file, one a line, stand in its place; blank lines and comments (#, //) are left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from convoy import exits
from convoy.outside import printable, read_file

MAX_FILES, MAX_BYTES = 100, 1 << 20
_FLAG = re.compile(r"--?flagfile(?:=(.*))?", re.DOTALL)


def inlined(argv: Iterable[str]) -> list[str]:
    """argv with the flags of its files; files may name files.

    Raises:
      exits.UsageError: a file cannot be read, is no text, or leads back to itself.
    """
    return list(_Files().inline(argv, ()))


class _Files:
    def __init__(self) -> None:
        self._read = 0

    def inline(self, argv: Iterable[str], within: tuple[str, ...]) -> Iterator[str]:
        words = iter(argv)
        for word in words:
            match = _FLAG.fullmatch(word)
            if not match:
                yield word
                if word == "--":
                    yield from words
                continue
            path = match[1] if match[1] is not None else next(words, "")
            if path.strip():
                yield from self._lines(os.path.expanduser(path.strip()), within)  # noqa: PTH111 - ~nobody stays as it is

    def _lines(self, path: str, within: tuple[str, ...]) -> Iterator[str]:
        self._read += 1
        real = os.path.realpath(path)
        if real in within:
            raise exits.UsageError(f"--flagfile={path} leads back to itself; take that line out of it.")
        if self._read > MAX_FILES:
            raise exits.UsageError(f"--flagfile={path} is the {self._read}th file; at most {MAX_FILES} are read.")
        lines = (line.strip() for line in re.split(r"\r\n|\r|\n", _text(path)))
        yield from self.inline((line for line in lines if line and not line.startswith(("#", "//"))), (*within, real))


def _text(path: str) -> str:
    try:
        return read_file(path, MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise exits.UsageError(
            f"--flagfile={path} is not a text in UTF-8 ({error.reason} at byte {error.start})."
        ) from None
    except exits.BadData as error:
        raise exits.UsageError(f"--flagfile: {error}") from None
    except (OSError, ValueError) as error:  # the latter for a NUL in the name
        raise exits.UsageError(f"--flagfile={printable(path)} cannot be read: {exits.reason(error)}.") from None
