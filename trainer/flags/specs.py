"""Flags that are small languages, parsed once into typed values: `config.loss_spec`, `config.devices_spec`.

Each class has `parse`, which raises exits.CannotRun with a sentence for a text that is impossible.
"""

from __future__ import annotations

import dataclasses
import math
import re

from convoy import bounds, options
from convoy.bounds import real, whole
from convoy.table import near
from convoy.trainer.flags.choices import LOSSES, SCHEDULES
from convoy.trainer.flags.durations import MOST_EXAMPLES

_SCALE = re.compile(r"none|(linear|sqrt):([1-9][0-9]{0,11})")
_DEVICES = re.compile(r"auto|(cpu|gpu|tpu):([1-9][0-9]*)")
_BATCHNORM = re.compile(r"sync|local|ghost:([1-9][0-9]*)")
_MAX_DEVICES = 1024  # of a process
_POSITIVE = real(0, above=True)


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
        match = _DEVICES.fullmatch(text)
        _require(match, "devices", text, "give auto, cpu:N, gpu:N or tpu:N")
        assert match
        return cls(text, match[1] or "auto", _count(match[2], _MAX_DEVICES, "devices", text))

    @property
    def is_auto(self) -> bool:
        return self.platform == "auto"


@dataclasses.dataclass(frozen=True)
class BatchNormSpec(_Spec):
    """--batchnorm: sync, local or ghost, and the examples of a ghost's group; 0 for the other two."""

    mode: str
    group: int

    @classmethod
    def parse(cls, text: str) -> BatchNormSpec:
        match = _BATCHNORM.fullmatch(text)
        _require(match, "batchnorm", text, "give sync, local or ghost:N, for example ghost:32")
        assert match
        return cls(text, text.partition(":")[0], _count(match[1], MOST_EXAMPLES, "batchnorm", text))


@dataclasses.dataclass(frozen=True)
class ScaleSpec(_Spec):
    """--scale_lr: how the learning rate grows with the batch."""

    rule: str  # none, linear or sqrt
    base: int  # the batch size that leaves the rate as it is; 0 for none

    @classmethod
    def parse(cls, text: str) -> ScaleSpec:
        match = _SCALE.fullmatch(text)
        remedy = "give none, linear:BASE or sqrt:BASE with a whole number of up to 12 digits, for example linear:256"
        _require(match, "scale_lr", text, remedy)
        assert match
        return cls(text, match[1] or "none", int(match[2] or 0))

    def factor(self, batch_size: int) -> float:
        """What the learning rate is multiplied by."""
        if self.rule == "none":
            return 1.0
        ratio = batch_size / self.base
        return ratio if self.rule == "linear" else math.sqrt(ratio)


@dataclasses.dataclass(frozen=True)
class ScheduleSpec(_Spec):
    """--schedule: its kind and numbers, which are the power of polynomial and the fractions of step."""

    kind: str
    numbers: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> ScheduleSpec:
        kind, _, rest = text.partition(":")
        _require(kind in SCHEDULES, "schedule", text, near(kind, SCHEDULES))
        try:
            numbers = tuple(bounds.number(number) for number in rest.split(",")) if rest else ()
        except ValueError:
            numbers = (math.nan,)
        if kind == "polynomial":
            numbers = numbers or (2.0,)
            possible = len(numbers) == 1 and _POSITIVE.holds(numbers[0])
            _require(possible, "schedule", text, f"give one power above 0, {_POSITIVE}, for example polynomial:2")
        elif kind == "step":
            numbers = numbers or (1 / 3, 2 / 3)
            possible = all(0 < a < 1 for a in numbers) and list(numbers) == sorted(set(numbers))
            _require(possible, "schedule", text, "give rising fractions of the run, for example step:0.33,0.67,0.9")
        else:
            _require(not rest, "schedule", text, f"{kind} takes no numbers")
        return cls(text, kind, numbers)


@dataclasses.dataclass(frozen=True)
class LossSpec(_Spec):
    """--loss: its kind and number: gamma of focal, tau of logit_adjusted and balanced_softmax, beta of weighted.

    Inverse frequency is beta = 1, where the effective number of examples becomes their number.
    """

    kind: str
    number: float

    @classmethod
    def parse(cls, text: str) -> LossSpec:
        kind, _, rest = text.partition(":")
        _require(kind in LOSSES, "loss", text, near(kind, LOSSES))
        if text in (kind, "weighted:inverse"):
            return cls(text, kind, 2.0 if kind == "focal" else 1.0)
        try:
            number = bounds.number(rest)
        except ValueError:
            number = math.nan
        if kind == "weighted":
            remedy = "give weighted:inverse, or a beta between 0 and 1, for example weighted:0.999"
            _require(0 < number < 1, "loss", text, remedy)
        else:
            _require(kind in ("focal", "logit_adjusted"), "loss", text, f"{kind} takes no number")
            remedy = f"give one number above 0, {_POSITIVE}, for example {kind}:1.5"
            _require(_POSITIVE.holds(number), "loss", text, remedy)
        return cls(text, kind, number)


def _count(text: str | None, largest: int, flag: str, value: str) -> int:
    """The number that a flag counts, 0 where it counts nothing."""
    if text is None:
        return 0
    _require(len(text) <= 12 and int(text) <= largest, flag, value, f"N is {whole(1, largest)}")
    return int(text)


def _require(condition: object, flag: str, value: object, remedy: str) -> None:
    if not condition:
        raise options.impossible(flag, value, remedy)
