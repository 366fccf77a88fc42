"""What cannot fit into this machine is refused before it is tried: the kernel kills who asks for too much, without a word."""

from __future__ import annotations

import os

from convoy import exits
from convoy.options import shortened


def check(flag: str, value: object, what: str, size: int) -> None:
    """exits.CannotRun if `size` bytes, of what a flag asks for, are more than this machine has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise exits.CannotRun(
            f"--{flag}={shortened(value)} is not possible here: {what} have {size:,} bytes, and this machine's memory has"
            f" {there:,}; give less."
        )
