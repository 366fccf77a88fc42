"""Command lines for a person to paste, each on one line whatever its words contain."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def line(words: Iterable[str]) -> str:
    """Words -> one line that bash and zsh split into the same words.

    A word with a line break or another invisible character is written as $'...': it would otherwise end the comment or sentence
    around the command.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    return "$'" + "".join(_character(character) for character in word) + "'"


def _character(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
