"""The flags of all targets in one class each: what a command line may say depends on the rows of names.py alone.

A command takes every target's flags, whichever target it names, since a rehearsal takes those of the cluster that it rehearses.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from convoy.launch.flags import WHERE, JobOptions, TargetOptions, check_visible
from convoy.launch.targets.names import TARGETS, platform
from convoy.options import option


def target_options() -> type[TargetOptions]:
    """The flags of every verb: which target, and where."""
    return _joined(TargetOptions.__name__, TargetOptions, *_places(), help=TARGETS.help())


def job_options() -> type[JobOptions]:
    """The flags of a job."""
    own = (platform(name).job_options for name in TARGETS)
    return _joined(JobOptions.__name__, TargetOptions, *_places(), JobOptions, *own, help=TARGETS.help())


def doctor_options(common: type) -> type[TargetOptions]:
    """The flags of `convoy launch doctor`; `common` are those of all targets."""
    own = (platform(name).doctor_options for name in TARGETS)
    return _joined("DoctorOptions", common, *own, TargetOptions, *_places(), help=TARGETS.help())


def _places() -> list[type]:
    return [platform(name).target_options for name in TARGETS]


@functools.cache
def _joined(name: str, *classes: type, help: str) -> Any:
    """A frozen dataclass with the fields of all classes, in their order, each class checked; `target` is a flag in it.

    A target without flags has NoOptions, which counts once.
    """
    classes = tuple(dict.fromkeys(classes))

    def check_all(self: Any) -> None:
        check_visible(vars(self))
        for cls in classes:
            if check := vars(cls).get("__post_init__"):
                check(self)

    target = option(TargetOptions.target, f"{help}.", group=WHERE, choices=TARGETS)
    return dataclasses.make_dataclass(
        name,
        [("target", str, target)],
        bases=tuple(reversed(classes)),
        namespace={"__post_init__": check_all},
        frozen=True,
    )
