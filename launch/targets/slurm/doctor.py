"""`convoy launch doctor --target=slurm`: whether a cluster has what jobs need."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.launch.flags import TargetOptions
from convoy.launch.targets.base import Check


def checks(options: TargetOptions) -> Iterator[Check]:
    """What to check, in order."""
    yield from ()
