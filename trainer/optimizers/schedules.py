"""Learning rate as a pure function of the step."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from convoy import exits
from convoy.trainer.config import RunConfig


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then `kind` down to the end of the run.

    Step s is the number of updates made before. Warm-up: peak * (s + 1) / (warmup + 1). Then, with t the fraction of the
    remaining steps that has passed: constant 1, linear 1 - t, polynomial (1 - t)**power, cosine (1 + cos(pi t)) / 2
    (Loshchilov & Hutter 2017, equation 5, without restarts), step 0.1**(how many of the fractions of the whole run have
    passed; He et al. 2016).
    """

    def __init__(self, kind: str, numbers: tuple[float, ...], peak: float, warmup_steps: int, total_steps: int):
        self.kind, self.numbers, self.peak = kind, numbers, peak
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: Any) -> Any:
        """A step (integer) -> the learning rate, in Keras' floatx."""
        step = ops.cast(step, keras.config.floatx())
        warm = (step + 1.0) / (self.warmup_steps + 1.0)
        passed = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        passed = ops.clip(passed, 0.0, 1.0)
        return self.peak * ops.where(step < self.warmup_steps, warm, self._after(step, passed))

    def _after(self, step: Any, passed: Any) -> Any:
        if self.kind == "linear":
            return 1.0 - passed
        if self.kind == "polynomial":
            return (1.0 - passed) ** self.numbers[0]
        if self.kind == "cosine":
            return 0.5 + 0.5 * ops.cos(passed * 3.141592653589793)
        if self.kind == "step":
            borders = ops.convert_to_tensor([f * self.total_steps for f in self.numbers], dtype=step.dtype)
            return 0.1 ** ops.sum(ops.cast(step >= borders, step.dtype))
        return ops.ones_like(passed)

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
    warmup = config.warmup_spec.steps(examples, config.batch_size)
    if warmup and warmup >= config.total_steps(examples):
        raise exits.CannotRun(
            f"--warmup={config.warmup} is as long as the run, --duration={config.duration}; give a shorter one."
        )
    spec = config.schedule_spec
    return Schedule(spec.kind, spec.numbers, config.peak_learning_rate, warmup, config.total_steps(examples))
