"""Whether TensorFlow computes with oneDNN on a CPU, --onednn. TensorFlow reads its switch once, when it is imported.

By itself it leaves oneDNN off on processors that have neither VNNI nor BF16 nor AMX instructions, where it is faster too.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import NamedTuple

SWITCH = "TF_ENABLE_ONEDNN_OPTS"
TENSORFLOWS_OWN = "tensorflow"


class Kind(NamedTuple):
    """Processors that have all of some instructions, as Linux names them."""

    instructions: frozenset[str]
    onednn: str


# The first that matches. AVX2: benchmarks/results/forward.csv, 1.1 to 2.3 times as fast, and benchmarks/results/onednn.csv.
KINDS = (Kind(frozenset({"avx512f"}), TENSORFLOWS_OWN), Kind(frozenset({"avx2", "fma"}), "on"))


def choose(asked: str) -> None:
    """Sets the switch as --onednn asks, before TensorFlow is imported; the environment's own setting stays."""
    if SWITCH in os.environ or "tensorflow" in sys.modules:
        return
    value = for_this_machine() if asked == "auto" else asked
    if value != TENSORFLOWS_OWN:
        os.environ[SWITCH] = str(int(value == "on"))


def for_this_machine() -> str:
    """What `auto` means here, by the instructions of the processor."""
    here = instructions()
    return next((kind.onednn for kind in KINDS if kind.instructions <= here), TENSORFLOWS_OWN)


@functools.cache
def instructions() -> frozenset[str]:
    """Of this machine's processor, as Linux names them; none where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))
