"""Which numbers an option can be: said once, beside its default; checked and told to people from here.

Floats are judged as float32, which steps are computed in: 1e39 is infinite there, 1e-46 is 0 and 0.99999999 is 1. Those within
SMALLEST and LARGEST stay normal numbers when two of them are multiplied or divided by a number of usual size.
"""

from __future__ import annotations

import dataclasses
import math
import struct

SMALLEST, LARGEST = 1e-30, 1e30  # of floats, but for 0
MAX_CHARACTERS = 1000  # of a number; Python reads no integer of more than 4300, and long ones slowly
LONGEST_TEXT = 4096  # of an option that is one: as long as Linux lets a path be


@dataclasses.dataclass(frozen=True)
class Bounds:
    """From `low` to `high`; `above` and `below` leave that end itself out."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether an option can be this number."""
        rounded = value
        if isinstance(value, float):
            if not math.isfinite(value) or (value and not SMALLEST <= abs(value) <= LARGEST):
                return False
            (rounded,) = struct.unpack("f", struct.pack("f", value))
        enough = min(value, rounded) > self.low if self.above else value >= self.low
        return enough and (max(value, rounded) < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """Completes "give ..."."""
        if isinstance(self.high, int):
            return f"a whole number from {self.low:,} to {self.high:,}"
        if self.low:
            first = f"a number {'above' if self.above else 'from'} {self.low:g}"
        else:
            first = f"{'' if self.above else '0 or '}a number from {SMALLEST:g}"
        return f"{first} up to {'but not including ' if self.below else ''}{self.high:g}"


def whole(low: int, high: int) -> Bounds:
    return Bounds(low, high)


PORTS = whole(0, 65535)  # of a machine; 0: one that is free


def real(low: float, high: float = LARGEST, above: bool = False, below: bool = False) -> Bounds:
    return Bounds(float(low), float(high), above, below)


def number(text: str) -> float:
    """A number as people write it, in ASCII: Python's own float takes digits of every script. ValueError for any other text."""
    if not text.isascii() or len(text) > MAX_CHARACTERS:
        raise ValueError
    return float(text)
