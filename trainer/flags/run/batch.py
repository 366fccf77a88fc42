"""How many examples a step has, and a run."""

from __future__ import annotations

import dataclasses
import functools

from convoy import options
from convoy.bounds import whole
from convoy.options import option
from convoy.trainer.flags.batch_ramp import RampSpec
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import MAX_EXAMPLES, MAX_STEPS, Duration

_OPTIMIZATION = "Optimization"


@dataclasses.dataclass(frozen=True)
class BatchFlags:
    """Batches and their number. Every batch size is global, whatever the number of devices."""

    batch_size: int = option(
        128,
        "examples per optimizer step, over all devices together.",
        group=_OPTIMIZATION,
        within=whole(1, MAX_EXAMPLES),
    )
    batch_ramp: str = option(
        "",
        "begin with smaller batches: 128:5ep,256:10ep are batches of 128 for 5 epochs and of 256 for 10 more, before those of"
        " --batch_size; durations in epochs (5ep) or steps (100st) (Smith et al. 2018; docs/large-batch.md).",
        group=_OPTIMIZATION,
    )
    duration: str = option(
        "10ep",
        "how long to train: epochs (10ep), steps (600st), or minutes of steps (30min): their number is measured once, before"
        " the first step, and kept; evaluations and saves take time beside them.",
        group=_OPTIMIZATION,
    )

    @functools.cached_property
    def duration_spec(self) -> Duration:
        return Duration.parse(self.duration, "duration", positive=True, minutes=True)

    @functools.cached_property
    def batch_ramp_spec(self) -> RampSpec:
        return RampSpec.parse(self.batch_ramp)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Of all steps, in the order in which they come."""
        return (*self.batch_ramp_spec.sizes, self.batch_size)

    def clock(self, examples: int) -> Clock:
        """Which examples a step trains on, where an epoch has so many; CannotRun for a --batch_ramp that no run has."""
        return self.batch_ramp_spec.clock(examples, self.batch_size)

    def total_steps(self, examples: int) -> int:
        """Steps of the whole run, the last of which may go beyond --duration; CannotRun for more than can be counted."""
        clock = self.clock(examples)
        steps = self.duration_spec.steps(clock)
        if steps > MAX_STEPS:
            raise options.impossible("duration", self.duration, f"it is {steps:,} steps; give at most {MAX_STEPS:,}")
        self.batch_ramp_spec.check_end(clock, steps)
        return steps
