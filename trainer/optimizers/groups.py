"""--groups, --layer_decay and --unfreeze -> what becomes of each variable. Knows paths and depths, no Keras."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence

from convoy import exits, options
from convoy.counting import counted
from convoy.data.expressions import search
from convoy.outside import printable
from convoy.table import closest
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.groups import GroupSpec

_SHOWN = 3  # paths, where a pattern matches none


@dataclasses.dataclass(frozen=True)
class Depths:
    """Where in its network each variable lies, and each layer without variables, by its path.

    Attributes:
      from_head: how many blocks stand between it and the head, 0 in the head itself.
      body: what is none of the head for --unfreeze, although it may be for --layer_decay: all of the "backbone".
    """

    from_head: Mapping[str, int]
    body: frozenset[str] = frozenset()

    @property
    def deepest(self) -> int:
        """The number of blocks below the head, as --unfreeze counts them."""
        return max(map(self.for_stages, self.from_head), default=0)

    def for_stages(self, path: str) -> int:
        return max(self.from_head.get(path, 0), int(path in self.body))


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
    depths: Depths
    group_of: Mapping[str, GroupSpec | None]  # of the variables
    kept: frozenset[str] = frozenset()  # the paths of variables that never train, whatever their group says

    def __call__(self, path: str) -> Treatment:
        group = self.group_of[path] if path in self.group_of else _groups_of(self.config, [path])[path]
        if path in self.kept or (group and group.freeze):
            return Treatment(None)
        # The blocks below the head are released in as many parts of equal length as there are borders, from the head down.
        borders = len(self.config.unfreeze_spec.borders)
        stage = math.ceil(self.depths.for_stages(path) * borders / self._deepest) if borders else 0
        lr, wd = (group.lr, group.wd) if group else (1.0, 1.0)
        return Treatment(stage, lr * self.config.layer_decay ** self.depths.from_head.get(path, 0), wd)

    @functools.cached_property
    def _deepest(self) -> int:
        return self.depths.deepest


def build_treatments(config: RunConfig, paths: Iterable[str], depths: Depths, kept: Iterable[str] = ()) -> Treatments:
    """What --groups, --layer_decay and --unfreeze make of the variables at `paths`; those at `kept` never train.

    Raises:
      exits.CannotRun: a pattern of --groups matches no variable, or --unfreeze has more borders than there are blocks.
    """
    group_of = _groups_of(config, list(paths))
    _check_patterns(config, group_of)
    borders, deepest = len(config.unfreeze_spec.borders), depths.deepest
    if borders > deepest:
        remedy = f"below its head the network has {counted(deepest, 'block')}, so give at most {counted(deepest, 'duration')}"
        raise options.impossible("unfreeze", config.unfreeze, remedy)
    return Treatments(config, depths, group_of, frozenset(kept))


def _groups_of(config: RunConfig, paths: Sequence[str]) -> dict[str, GroupSpec | None]:
    """The first group whose pattern matches each path."""
    group_of: dict[str, GroupSpec | None] = dict.fromkeys(paths)
    for group in reversed(config.groups_spec.groups):
        matches, _ = search("groups", group.pattern, paths)
        group_of |= {path: group for path, matched in zip(paths, matches, strict=True) if matched}
    return group_of


def _check_patterns(config: RunConfig, group_of: Mapping[str, GroupSpec | None]) -> None:
    used, paths = {group.text for group in group_of.values() if group}, list(group_of)
    for group in config.groups_spec.groups:
        if group.text in used:
            continue
        pattern = options.shortened(group.pattern)
        if search("groups", group.pattern, paths)[0].any():
            raise exits.CannotRun(
                f"--groups: whatever {pattern} matches belongs to a pattern before it already; remove it, or put it first."
            )
        near = closest(group.pattern, paths, count=_SHOWN, cutoff=0.0)
        shown = ", ".join(map(printable, near))
        raise exits.CannotRun(
            f"--groups: {pattern} matches no variable of --model={config.model}; the paths closest to it are {shown}."
        )
