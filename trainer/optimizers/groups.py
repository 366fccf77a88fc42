"""--groups, --layer_decay and --unfreeze -> what becomes of each variable. Knows paths and depths, no Keras."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

from convoy import exits, options
from convoy.outside import printable
from convoy.table import closest
from convoy.trainer.config import RunConfig

# The path of a variable or a layer -> how many blocks stand between it and the head: 0 for the head itself.
Depth = Callable[[str], int]
_SHOWN = 3  # paths, where a pattern matches none


@dataclasses.dataclass(frozen=True)
class Treatment:
    """What becomes of a variable.

    Attributes:
      stage: the first stage in which it trains; None: it never does.
      lr, wd: factors of the learning rate, and of weight decay beside that.
    """

    stage: int | None = 0
    lr: float = 1.0
    wd: float = 1.0

    def trains_in(self, stage: int) -> bool:
        return self.stage is not None and self.stage <= stage


@dataclasses.dataclass(frozen=True)
class Treatments:
    """The treatment of every variable of a model, by its path. Made by `build_treatments`, which has checked the flags.

    Layers without variables, such as dropout, are asked for by their own path, and do what variables of that path would.
    """

    config: RunConfig
    depth: Depth
    deepest: int

    def __call__(self, path: str) -> Treatment:
        group = self.config.groups_spec.first(path)
        if group and group.freeze:
            return Treatment(None)
        decay, borders = self.config.layer_decay, len(self.config.unfreeze_spec.borders)
        depth = self.depth(path) if borders or decay < 1 else 0
        # The blocks below the head are released in as many parts of equal length as there are borders, from the head down.
        stage = math.ceil(depth * borders / max(self.deepest, 1))
        lr, wd = (group.lr, group.wd) if group else (1.0, 1.0)
        return Treatment(stage, lr * decay**depth, wd)


def build_treatments(config: RunConfig, paths: Iterable[str], depth: Depth) -> Treatments:
    """What --groups, --layer_decay and --unfreeze make of the variables at `paths`.

    Raises:
      exits.CannotRun: a pattern of --groups matches no variable, or --unfreeze has more borders than there are blocks.
    """
    paths = list(paths)
    _check_patterns(config, paths)
    borders = len(config.unfreeze_spec.borders)
    deepest = max(map(depth, paths), default=0) if borders or config.layer_decay < 1 else 0
    if borders > deepest:
        remedy = f"below its head the network has {deepest} blocks, so give at most {deepest} durations"
        raise options.impossible("unfreeze", config.unfreeze, remedy)
    return Treatments(config, depth, deepest)


def _check_patterns(config: RunConfig, paths: list[str]) -> None:
    spec = config.groups_spec
    used = {group.text for path in paths if (group := spec.first(path))}
    for group in spec.groups:
        if group.text in used:
            continue
        pattern = options.shortened(group.pattern.pattern)
        if any(group.pattern.search(path) for path in paths):
            raise exits.CannotRun(
                f"--groups: whatever {pattern} matches belongs to a pattern before it already; remove it, or put it first."
            )
        near = closest(group.pattern.pattern, paths, count=_SHOWN, cutoff=0.0)
        shown = ", ".join(map(printable, near))
        raise exits.CannotRun(
            f"--groups: {pattern} matches no variable of --model={config.model}; the paths closest to it are {shown}."
        )
