"""--devices of `convoy bench scaling`: several numbers of devices, as in 1,2,4,8 or gpu:1,2,4,8."""

from __future__ import annotations

import dataclasses
import itertools
import re

from convoy import options
from convoy.trainer.flags.specs import MAX_DEVICES

_COUNTS = re.compile(r"(?:(cpu|gpu|tpu):)?([1-9][0-9]{0,11}(?:,[1-9][0-9]{0,11})+)")
_REMEDY = "give numbers of devices that grow, for example 1,2,4,8, or gpu:1,2,4,8"


@dataclasses.dataclass(frozen=True)
class DeviceCounts:
    """Numbers of devices, each larger than the one before; two at least.

    Attributes:
      platform: cpu, gpu or tpu; "" for accelerators where there are some, else the CPU.
      counts: the first is what the others are compared with.
    """

    platform: str
    counts: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> DeviceCounts:
        """exits.CannotRun, a sentence, for a text that is impossible."""
        match = _COUNTS.fullmatch(text)
        counts = tuple(map(int, match[2].split(","))) if match else ()
        if not match or any(later <= earlier for earlier, later in itertools.pairwise(counts)):
            raise options.impossible("devices", text, _REMEDY)
        if counts[-1] > MAX_DEVICES:
            raise options.impossible("devices", text, f"a process has at most {MAX_DEVICES:,} devices")
        if not match[1] and counts[0] > 1:
            raise options.impossible("devices", text, "begin with 1, or name the platform, for example gpu:2,4,8")
        return cls(match[1] or "", counts)
