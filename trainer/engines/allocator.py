"""Lets glibc keep the memory that a step frees, for the next step to use.

By itself it gives large pieces back to the kernel, and the step pays for every page again when it first writes to it: a third
of the time of a small network on two hosts of TensorFlow (benchmarks/results/allocator.csv). glibc's manual, "Malloc Tunable
Parameters".
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """From now on this process gives no freed memory back: it stays as large as it ever was. Returns whether that is so.

    It is not where glibc is not the C library, and where the environment has settings of its own for glibc's allocator.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    # What is larger than a heap of a thread's own comes from the kernel all the same: glibc has no setting for that.
    if set_option is None:
        return False
    return all(set_option(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)))
