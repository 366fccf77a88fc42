"""Learning rate as a pure function of the step."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
from keras import ops

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.clock import Clock
from convoy.trainer.schedules.formulas import Moment
from convoy.trainer.schedules.names import SCHEDULES


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then the formula of a row down to the end of the run.

    Step s is the number of updates made before. Warm-up: peak * (s + 1) / (warmup + 1). With --batch_ramp these are full steps:
    examples that were shown, divided by --batch_size. So a rate depends on the examples, in whatever batches they came.

    Args:
      kind: the name of the row.
      numbers: of its target.
      peak: the largest learning rate.
      warmup_steps, total_steps: of the run.
      clock: of the run.
      factors: of the rate while each batch size of the clock lasts; none: 1 for all.
    """

    def __init__(
        self,
        kind: str,
        numbers: tuple[float, ...],
        peak: float,
        warmup_steps: int,
        total_steps: int,
        clock: Clock,
        factors: tuple[float, ...] = (),
    ):
        self.kind = kind
        self.numbers = numbers
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.clock = clock
        self.factors = factors
        self._formula = SCHEDULES.load(kind)

    def __call__(self, step: Any) -> Any:
        """A step (integer) -> the learning rate, in Keras' floatx."""
        ends = self.warmup_steps, self.warmup_steps + 1, self.total_steps
        warmup, warm, total = (float(self.clock.full_steps(end)) for end in ends)
        step = ops.cast(step, keras.config.floatx())
        done = self.full_steps(step)
        passed = (done - warmup) / max(total - warmup, 1)
        moment = Moment(done, ops.clip(passed, 0.0, 1.0), total, self.peak)
        after = self._formula(moment, *self.numbers)
        rate = self.peak * ops.where(done < warmup, self.full_steps(step + 1.0) / warm, after)
        return rate * self._factor(step) if self.factors else rate

    def full_steps(self, step: Any) -> Any:
        """The examples that were shown before a step (floats), in steps of --batch_size."""
        segments = self.clock.segments
        if len(segments) == 1:
            return step
        # Batches grow, so a segment's line is below those of the others outside of it.
        lines = [
            float(self.clock.full_steps(first)) + (step - first) * (size / self.clock.full_batch)
            for first, _, size in segments
        ]
        return functools.reduce(ops.maximum, lines)

    def at(self, position: int) -> float:
        """The learning rate of the step that trains on a position of the training stream."""
        return float(self(self.clock.step_of(position)))

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "numbers": self.numbers,
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "clock": self.clock,
            "factors": self.factors,
        }

    def _factor(self, step: Any) -> Any:
        factor = ops.full_like(step, self.factors[0])
        for border, following in zip(self.clock.borders, self.factors[1:], strict=True):
            factor = ops.where(step < border, factor, ops.full_like(step, following))
        return factor


def build_schedule(config: RunConfig, examples: int) -> Schedule:
    """--learning_rate, --scale_lr, --schedule and --warmup for a training set of `examples`."""
    total, clock = config.total_steps(examples), config.clock(examples)
    warmup = config.warmup_spec.steps(clock)
    if warmup and warmup >= total:
        raise exits.CannotRun(
            f"--warmup={config.warmup} is as long as the run, --duration={config.duration}; give a shorter one."
        )
    spec = config.schedule_spec
    begin = (1 - spec.cooldown) * float(clock.full_steps(total))
    if warmup and spec.cooldown and clock.full_steps(warmup) > begin:
        begin = clock.step_at(math.floor(begin * clock.full_batch))
        raise exits.CannotRun(
            f"--warmup={config.warmup} ends at step {warmup:,} and the cooldown of --schedule={config.schedule} begins at step"
            f" {begin:,.0f}; shorten one of them."
        )
    return Schedule(spec.kind, spec.numbers, config.peak_learning_rate, warmup, total, clock, config.rate_factors)
