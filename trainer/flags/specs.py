"""Flags that are small languages, parsed into typed values: --devices and --batchnorm.

Each class has `parse`, which raises exits.CannotRun with a sentence for a text that is impossible.
"""

from __future__ import annotations

import dataclasses
import re

from convoy import options
from convoy.bounds import whole
from convoy.trainer.flags.durations import MAX_EXAMPLES

_DEVICES = re.compile(r"auto|(cpu|gpu|tpu):([1-9][0-9]*)")
_BATCHNORM = re.compile(r"sync|local|frozen|ghost:([1-9][0-9]*)")
MAX_DEVICES = 1024  # of a process


@dataclasses.dataclass(frozen=True)
class _Spec:
    text: str  # as the flag has it

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class DevicesSpec(_Spec):
    """--devices: the platform, "auto" or cpu, gpu or tpu, and how many devices of it; 0 for auto."""

    platform: str
    count: int

    @classmethod
    def parse(cls, text: str) -> DevicesSpec:
        match = _matched(_DEVICES, "devices", text, "give auto, cpu:N, gpu:N or tpu:N")
        return cls(text, match[1] or "auto", _count(match[2], MAX_DEVICES, "devices", text))

    @property
    def is_auto(self) -> bool:
        return self.platform == "auto"


@dataclasses.dataclass(frozen=True)
class BatchNormSpec(_Spec):
    """--batchnorm: sync, local, frozen or ghost, and the examples of a ghost's group; 0 for the others."""

    mode: str
    group: int

    @classmethod
    def parse(cls, text: str) -> BatchNormSpec:
        match = _matched(_BATCHNORM, "batchnorm", text, "give sync, local, frozen or ghost:N, for example ghost:32")
        return cls(text, text.partition(":")[0], _count(match[1], MAX_EXAMPLES, "batchnorm", text))


def _matched(pattern: re.Pattern[str], flag: str, text: str, remedy: str) -> re.Match[str]:
    if match := pattern.fullmatch(text):
        return match
    raise options.impossible(flag, text, remedy)


def _count(text: str | None, largest: int, flag: str, value: str) -> int:
    """The number that a flag counts, 0 where it counts nothing."""
    if text is None:
        return 0
    if len(text) > 12 or int(text) > largest:
        raise options.impossible(flag, value, f"N is {whole(1, largest)}")
    return int(text)
