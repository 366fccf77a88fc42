"""What cannot fit into this machine is refused before it is tried: the kernel kills who asks for too much, without a word."""

from __future__ import annotations

import os

from convoy import exits
from convoy.options import shortened


def size() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(flag: str, value: object, what: str, needed: int) -> None:
    """exits.CannotRun if `needed` bytes, of what a flag asks for, are more than this machine has."""
    if needed > (there := size()):
        raise exits.CannotRun(
            f"--{flag}={shortened(value)} is not possible here: {what} have {needed:,} bytes, and this machine's memory has"
            f" {there:,}; give less."
        )
