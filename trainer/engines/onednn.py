"""Whether TensorFlow computes with oneDNN on a CPU, --onednn. TensorFlow reads its switch once, when it is imported.

`auto` is what `convoy bench hardware` measured on this processor with this TensorFlow, else what a table says of its kind.
By itself TensorFlow leaves oneDNN off on processors that have neither VNNI nor BF16 nor AMX instructions, where it is faster
too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from convoy import exits, shapes
from convoy.data.records.caches import caches
from convoy.outside import parse_json, read_file

SWITCH = "TF_ENABLE_ONEDNN_OPTS"
TENSORFLOWS_OWN = "tensorflow"
_VALUES = frozenset({"on", "off"})  # that a measurement can have


class Kind(NamedTuple):
    """Processors that have all of some instructions, as Linux names them."""

    instructions: frozenset[str]
    onednn: str


# The first that matches. AVX2: 1.1 to 2.3 times as fast (benchmarks/results/forward.csv).
KINDS = (Kind(frozenset({"avx512f"}), TENSORFLOWS_OWN), Kind(frozenset({"avx2", "fma"}), "on"))


def choose(asked: str) -> None:
    """Sets the switch as --onednn asks, before TensorFlow is imported; the environment's own setting stays."""
    if SWITCH in os.environ or "tensorflow" in sys.modules:
        return
    value = for_this_machine() if asked == "auto" else asked
    if value != TENSORFLOWS_OWN:
        os.environ[SWITCH] = str(int(value == "on"))


def for_this_machine() -> str:
    """What `auto` means here: as it was measured, else by the instructions of the processor."""
    if known := measured():
        return known
    here = instructions()
    return next((kind.onednn for kind in KINDS if kind.instructions <= here), TENSORFLOWS_OWN)


def measured() -> str:
    """on or off, as `convoy bench hardware` found it for this processor and TensorFlow; "" where it was not asked, or the file
    is none of its own."""
    return _known().get(_key(), {}).get("onednn", "")


def keep(value: str) -> Path:
    """Writes down what is faster here, beside what is known of others; returns the file. OSError where that cannot be."""
    every = {**_known(), _key(): {"onednn": value}}
    _file().parent.mkdir(parents=True, exist_ok=True)
    partial = _file().with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(every, indent=1))
    partial.replace(_file())  # at once: a run may read it
    return _file()


def processor() -> str:
    """This machine's, as Linux names it, with its family and model: virtual machines often have a name without a number."""
    lines = [line.partition(":") for line in _cpuinfo()]
    values = {name.strip(): value.strip() for name, _, value in reversed(lines)}  # of the first core
    parts = (values.get(name, "") for name in ("vendor_id", "model name", "cpu family", "model"))
    return " ".join(part for part in parts if part) or "unknown"


def _known() -> dict[str, dict[str, str]]:
    """What was measured, by processor and TensorFlow; nothing where the file is missing or none of its own."""
    with contextlib.suppress(OSError, exits.BadData):
        return shapes.check(parse_json(read_file(_file()), str(_file())), {str: {"onednn": _VALUES}}, str(_file()))
    return {}


def _file() -> Path:
    return caches() / "hardware.json"


def _key() -> str:
    return f"{processor()}, TensorFlow {version('tensorflow')}"


@functools.cache
def instructions() -> frozenset[str]:
    """Of this machine's processor, as Linux names them; none where that is not known."""
    return frozenset(next((line.partition(":")[2].split() for line in _cpuinfo() if line.startswith("flags")), ()))


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
