"""Refuses what cannot fit into this machine before it is tried: the kernel kills a process that asks for too much, silently."""

from __future__ import annotations

import os

from convoy import exits
from convoy.options import shortened


def size() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(flag: str, value: object, what: str, needed: int) -> None:
    """exits.CannotRun if `needed` bytes, of what a flag asks for, are more than this machine has."""
    if needed > (available := size()):
        raise exits.CannotRun(
            f"--{flag}={shortened(value)} is not possible here: {what} have {needed:,} bytes, and this machine's memory has"
            f" {available:,}; give less."
        )
