"""Numbers before nouns: 1 file, 3,000 classes, 2.5 epochs."""

from __future__ import annotations

import re

_HISSES = re.compile(r"(s|x|sh|(?<!epo)ch)$")  # as no epoch does


def counted(number: float, noun: str) -> str:
    """The number and the noun, in the plural unless it is one. Of several words the last is the noun."""
    shown = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{shown} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    return noun + ("es" if _HISSES.search(noun) else "s")
