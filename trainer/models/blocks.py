"""How deep in its network a variable lies, for --layer_decay: 0 is the stem, the largest is the head. Imports nothing heavy.

Depths are those of timm (`group_matcher` of its models, and `param_groups_layer_decay`): every block is one deeper than the one
before, and what matches no rule belongs to the head.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_HEAD = (float("inf"),)
_JOINS = 1e9  # after every block of a stage: a place that ends in it has the depth of the place before


class Rule(NamedTuple):
    """Variables whose path matches `pattern` from its beginning lie in the block (stage, block).

    Attributes:
      pattern: its groups `stage` and `block` are numbers, or letters that count from a; an absent group is 0.
      later: what is added to the stage.
      joins: they belong to the block before: the last of their stage, or of all if the pattern has no group `stage`.
      starts: for layers that Keras numbers from the stem to the head: the numbers at which a stage begins, after the first.
    """

    pattern: str
    later: int = 0
    joins: bool = False
    starts: tuple[int, ...] = ()


def depths(paths: Iterable[str], rules: Sequence[Rule]) -> dict[str, int]:
    """path -> depth; every number from 0 to the head's is taken.

    Args:
      paths: of the network's weights.
      rules: of its family; the first that matches counts.
    """
    places = {path: _place(path, rules) for path in paths}
    ranks: dict[tuple[float, ...], int] = {}
    rank = -1
    for place in sorted({*places.values(), _HEAD}):
        if place[-1] != _JOINS or rank < 0:
            rank += 1
        ranks[place] = rank
    return {path: ranks[place] for path, place in places.items()}


def _place(path: str, rules: Sequence[Rule]) -> tuple[float, ...]:
    """What sorts variables from the stem to the head."""
    for rule in rules:
        if match := re.match(rule.pattern, path):
            groups = match.groupdict()
            stage, block = _number(groups.get("stage")), _number(groups.get("block"))
            if rule.starts:
                stage = bisect.bisect_right(rule.starts, stage)
            if rule.joins:
                return (stage + rule.later if "stage" in groups else _JOINS, _JOINS)
            return (stage + rule.later, block)
    return _HEAD


def _number(text: str | None) -> int:
    if text is None:
        return 0
    return int(text) if text.isdigit() else ord(text) - ord("a")
