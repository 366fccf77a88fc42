"""Which numbers an option can be: said once, beside its default; checked and told to people from here.

Floats are judged as float32, which steps are computed in: 1e39 is infinite there, 1e-46 is 0 and 0.99999999 is 1. Those within
SMALLEST and LARGEST stay normal numbers when two of them are multiplied or divided by a number of usual size.
"""

from __future__ import annotations

import dataclasses
import math
import struct

SMALLEST, LARGEST = 1e-30, 1e30  # of floats, but for 0
MOST_CHARACTERS = 1000  # of a number; Python reads no integer of more than 4300, and long ones slowly
LONGEST_TEXT = 4096  # of an option that is one: as long as Linux lets a path be


@dataclasses.dataclass(frozen=True)
class Bounds:
    """From `least` to `most`; `above` and `below` leave that end itself out."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether an option can be this number."""
        rounded = value
        if isinstance(value, float):
            if not math.isfinite(value) or (value and not SMALLEST <= abs(value) <= LARGEST):
                return False
            (rounded,) = struct.unpack("f", struct.pack("f", value))
        enough = min(value, rounded) > self.least if self.above else value >= self.least
        return enough and (max(value, rounded) < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        """Completes "give ..."."""
        if isinstance(self.most, int):
            return f"a whole number from {self.least:,} to {self.most:,}"
        if self.least:
            first = f"a number {'above' if self.above else 'from'} {self.least:g}"
        else:
            first = f"{'' if self.above else '0 or '}a number from {SMALLEST:g}"
        return f"{first} up to {'but not including ' if self.below else ''}{self.most:g}"


def whole(least: int, most: int) -> Bounds:
    return Bounds(least, most)


def real(least: float, most: float = LARGEST, above: bool = False, below: bool = False) -> Bounds:
    return Bounds(float(least), float(most), above, below)


def number(text: str) -> float:
    """A number as people write it, in ASCII: Python's own float takes digits of every script. ValueError for any other text."""
    if not text.isascii() or len(text) > MOST_CHARACTERS:
        raise ValueError
    return float(text)
