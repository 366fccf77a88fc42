"""--groups and --unfreeze: small languages, parsed into typed values. Imports nothing heavy.

--groups='norm:wd=0;^stem:freeze;^head:lr=10'    patterns over the paths of variables; the first that matches decides
--unfreeze=3ep,6ep                               when more of the network begins to train
"""

from __future__ import annotations

import dataclasses
import re

from convoy import bounds, exits, options
from convoy.bounds import real
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import Duration

FORM = "give REGEX:lr=FACTOR, REGEX:wd=FACTOR, both with a comma between them, or REGEX:freeze, with ; between groups"
# 0 is no learning rate: what does not train is frozen, which also saves its gradient.
_FACTORS = {"lr": real(0, 1e6, above=True), "wd": real(0, 1e6)}


@dataclasses.dataclass(frozen=True)
class GroupSpec:
    """A pattern, and what becomes of the variables that it is the first to match.

    Attributes:
      text: as the flag has it.
      pattern: an expression of RE2, searched for in the path of a variable.
      freeze: whether they never train.
      lr, wd: factors of --learning_rate and of --weight_decay.
    """

    text: str
    pattern: str
    freeze: bool = False
    lr: float = 1.0
    wd: float = 1.0


@dataclasses.dataclass(frozen=True)
class GroupsSpec:
    """--groups, in the order in which patterns are tried."""

    text: str
    groups: tuple[GroupSpec, ...]

    @classmethod
    def parse(cls, text: str) -> GroupsSpec:
        """`text` as --groups has it, "" for none; CannotRun, a sentence, for a text that is impossible."""
        return cls(text, tuple(map(_group, text.split(";"))) if text else ())


@dataclasses.dataclass(frozen=True)
class UnfreezeSpec:
    """--unfreeze: the borders between stages, in the order of the flag."""

    text: str
    borders: tuple[Duration, ...]

    @classmethod
    def parse(cls, text: str) -> UnfreezeSpec:
        """`text` as --unfreeze has it, "" for none."""
        borders = text.split(",") if text else []
        return cls(text, tuple(Duration.parse(border, "unfreeze", positive=True) for border in borders))

    def steps(self, clock: Clock, total: int) -> tuple[int, ...]:
        """The borders in steps; CannotRun if they do not rise, or if one is no earlier than the run's end, `total` steps."""
        steps = tuple(border.steps(clock) for border in self.borders)
        if list(steps) != sorted(set(steps)):
            raise options.impossible(
                "unfreeze", self.text, "give rising durations, each at least a step after the last"
            )
        if steps and steps[-1] >= total:
            remedy = f"its last border is step {steps[-1]:,} of {total:,}; give one before the run ends, or a longer --duration"
            raise options.impossible("unfreeze", self.text, remedy)
        return steps


def _group(text: str) -> GroupSpec:
    pattern, colon, effect = text.rpartition(":")  # a pattern may hold colons, an effect does not
    if not (pattern and colon):
        raise options.impossible("groups", text, FORM)
    try:
        re.compile(pattern)  # RE2, which searches with it, may know less
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise exits.CannotRun(
            f"--groups: {options.shortened(pattern)} is no regular expression ({options.shortened(reason)}); write it as"
            " RE2 takes it."
        ) from None
    if effect == "freeze":
        return GroupSpec(text, pattern, freeze=True)
    factors: dict[str, float] = {}
    for assignment in effect.split(","):
        name, equals, value = assignment.partition("=")
        if not equals or name not in _FACTORS or name in factors:
            raise options.impossible("groups", text, FORM)
        factors[name] = _factor(text, name, value)
    return GroupSpec(text, pattern, lr=factors.get("lr", 1.0), wd=factors.get("wd", 1.0))


def _factor(text: str, name: str, value: str) -> float:
    try:
        factor = bounds.number(value)
    except ValueError:
        raise options.impossible("groups", text, f"{name} is {_FACTORS[name]}") from None
    if not _FACTORS[name].holds(factor):
        remedy = f"{name} is {_FACTORS[name]}" + ("; what shall not train is frozen, REGEX:freeze" * (name == "lr"))
        raise options.impossible("groups", text, remedy)
    return factor
