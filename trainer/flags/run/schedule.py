"""When a run evaluates, saves, ends early and starts again."""

from __future__ import annotations

import dataclasses
import functools

from convoy.bounds import real, whole
from convoy.options import option
from convoy.trainer.flags.choices import ON_NAN
from convoy.trainer.flags.durations import MAX_STEPS, Duration
from convoy.trainer.flags.profile import ProfileSpec

_SCHEDULE = "Schedule and checkpoints"


@dataclasses.dataclass(frozen=True)
class ScheduleFlags:
    """When a run evaluates, saves, ends early and starts again."""

    patience: int = option(
        0,
        "end the run after this many evaluations in a row that are no better than the best one (0: off).",
        group=_SCHEDULE,
        within=whole(0, MAX_STEPS),
        may_change=True,
    )
    max_minutes: float = option(
        0.0,
        "end the run after this many minutes of training, over all its attempts (0: off).",
        group=_SCHEDULE,
        within=real(0, 1e7),
        may_change=True,
    )
    eval_every: str = option("1ep", "how often to evaluate and to record.", group=_SCHEDULE, may_change=True)
    checkpoint_every: str = option("1ep", "how often to save.", group=_SCHEDULE, may_change=True)
    keep: int = option(
        2, "checkpoints to keep, besides the best.", group=_SCHEDULE, within=whole(1, 1_000_000), may_change=True
    )
    steps_per_loop: int = option(
        0,
        "steps between two checks for signals (0: as many as take half a second).",
        group=_SCHEDULE,
        within=whole(0, MAX_STEPS),
        may_change=True,
    )
    restarts: int = option(
        0,
        "how often to restart the run after exit code 42 (try again).",
        group=_SCHEDULE,
        within=whole(0, 1_000_000),
        may_change=True,
    )
    on_nan: str = option(
        "stop",
        lambda: f"after a step whose loss or gradient is not finite, {ON_NAN.help()}.",
        group=_SCHEDULE,
        choices=ON_NAN,
        may_change=True,
    )
    report: bool = option(
        True,
        "write report.html, the page of the run, keep its pictures, and give TensorBoard some (docs/report.md).",
        group=_SCHEDULE,
        may_change=True,
    )

    profile: str = option(
        "",
        "FIRST:END: a trace of these steps, END not among them, in the run directory, where TensorBoard finds it; 100:110 for"
        " one (docs/performance.md).",
        group=_SCHEDULE,
        may_change=True,
    )

    @functools.cached_property
    def profile_spec(self) -> ProfileSpec:
        return ProfileSpec.parse(self.profile)

    @functools.cached_property
    def eval_every_spec(self) -> Duration:
        return Duration.parse(self.eval_every, "eval_every", positive=True)

    @functools.cached_property
    def checkpoint_every_spec(self) -> Duration:
        return Duration.parse(self.checkpoint_every, "checkpoint_every", positive=True)
