"""How much memory a step needs, and how much there is. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
from pathlib import Path

from convoy import exits

USABLE = 0.9  # of what is free: a device and a machine have other uses for some of it
LIMITLESS = sys.float_info.max
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = (  # limit, what is used of it, and its statistics, of either version
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


class OutOfMemory(exits.CannotRun):
    """A step does not fit the memory of its devices."""


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Of one step, in bytes.

    Attributes:
      needed: at its peak, with the state; infinite if that was more than there is, and a trial showed it.
      available: what there is for it; LIMITLESS where only a trial can show it.
      base: of what is needed, what the process had before.
    """

    needed: float
    available: float
    base: float = 0.0

    @property
    def fits(self) -> bool:
        return self.needed <= self.available

    def __str__(self) -> str:
        """Ends a clause about the step; empty where nothing but a trial is known."""
        if self.available == LIMITLESS:
            return ""
        return f": a step takes {self.needed / 2**20:,.0f} MiB of memory, and there are {self.available / 2**20:,.0f}"


def peak() -> int:
    """The most bytes of memory that this process has ever had."""
    # The kernel notes the first one now and then.
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, resident())


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def free(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that processes may still take, of the machine or of the cgroup's limit, whichever is less."""
    lines = (line.partition(":") for line in meminfo.read_text().splitlines())
    amounts = [next(int(value.split()[0]) * 1024 for name, _, value in lines if name == "MemAvailable")]
    for limit, current, statistics, cache in _CGROUPS:
        if not (cgroup / limit).exists() or not (text := (cgroup / limit).read_text().strip()).isdigit():
            continue  # "max": no limit
        used = int((cgroup / current).read_text())
        lines = (line.partition(" ") for line in (cgroup / statistics).read_text().splitlines())
        used -= sum(int(value) for name, _, value in lines if name == cache)  # files that are given back when need be
        amounts.append(max(int(text) - used, 0))
    return min(amounts)
