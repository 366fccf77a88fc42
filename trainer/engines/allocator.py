"""Lets glibc keep the memory that a step frees, for the next step to use.

By itself it gives large pieces back to the kernel, and the step pays for every page again when it first writes to it: a third
of the time of a small network on two hosts of TensorFlow (benchmarks/results/allocator.csv). glibc's manual, "Malloc Tunable
Parameters".
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory(one_heap: bool = False) -> bool:
    """From now on this process gives no freed memory back: it stays as large as it ever was. Returns whether that is so.

    What is larger than the heap of a thread's own, 64 MiB, comes from the kernel all the same, as all that a step of JAX needs
    is one such piece. With `one_heap` threads have none of their own, and it is kept too. They wait for each other then where
    they ask for memory, which a step of JAX seldom does, and the process is larger by what lies between pieces.

    It is not where glibc is not the C library, and where the environment has settings of its own for glibc's allocator.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = [(_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), *([(_ARENA_MAX, 1)] if one_heap else [])]
    return all(set_option(option, value) for option, value in options)
