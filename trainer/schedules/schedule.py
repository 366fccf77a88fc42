"""Learning rate as a pure function of the step."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from convoy import exits
from convoy.trainer.config import RunConfig
from convoy.trainer.schedules.formulas import Moment
from convoy.trainer.schedules.names import SCHEDULES


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then the formula of a row down to the end of the run.

    Step s is the number of updates made before. Warm-up: peak * (s + 1) / (warmup + 1).

    Args:
      kind: the name of the row.
      numbers: of its target.
      peak: the largest learning rate.
      warmup_steps, total_steps: of the run.
    """

    def __init__(self, kind: str, numbers: tuple[float, ...], peak: float, warmup_steps: int, total_steps: int):
        self.kind = kind
        self.numbers = numbers
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self._formula = SCHEDULES.load(kind)

    def __call__(self, step: Any) -> Any:
        """A step (integer) -> the learning rate, in Keras' floatx."""
        step = ops.cast(step, keras.config.floatx())
        warm = (step + 1.0) / (self.warmup_steps + 1.0)
        passed = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        moment = Moment(step, ops.clip(passed, 0.0, 1.0), self.total_steps, self.peak)
        return self.peak * ops.where(step < self.warmup_steps, warm, self._formula(moment, *self.numbers))

    def at(self, position: int, batch_size: int) -> float:
        """The learning rate of the step that begins at a position of the training stream."""
        return float(self(position // batch_size))

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "numbers": self.numbers,
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def build_schedule(config: RunConfig, examples: int) -> Schedule:
    """--learning_rate, --scale_lr, --schedule and --warmup for a training set of `examples`."""
    total = config.total_steps(examples)
    warmup = config.warmup_spec.steps(examples, config.batch_size)
    if warmup and warmup >= total:
        raise exits.CannotRun(
            f"--warmup={config.warmup} is as long as the run, --duration={config.duration}; give a shorter one."
        )
    spec = config.schedule_spec
    if warmup and spec.cooldown and warmup > (begin := (1 - spec.cooldown) * total):
        raise exits.CannotRun(
            f"--warmup={config.warmup} ends at step {warmup:,} and the cooldown of --schedule={config.schedule} begins at step"
            f" {begin:,.0f}; shorten one of them."
        )
    return Schedule(spec.kind, spec.numbers, config.peak_learning_rate, warmup, total)
