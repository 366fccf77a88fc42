"""Command lines for a person to paste, each on one line of text whatever its words hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def line(words: Iterable[str]) -> str:
    """Words -> what bash and zsh read as these words.

    A word with a line break or another character that cannot be seen is written as $'...': it would otherwise end the comment
    or the sentence that the command stands in.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    return "$'" + "".join(_character(one) for one in word) + "'"


def _character(one: str) -> str:
    if one in "\\'":
        return "\\" + one
    return one if one.isprintable() else f"\\U{ord(one):08x}"
