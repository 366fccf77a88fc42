"""How far a run is: the part of a checkpoint that is not tensors."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from convoy import exits, shapes
from convoy.outside import printable
from convoy.shapes import Shape
from convoy.trainer.flags.durations import MOST_STEPS
from convoy.trainer.metrics import TrainingSums


@dataclasses.dataclass
class Progress:
    """Counters of a run over all its attempts.

    The data state is `step` and, after rollbacks, `shift`: the next example is at position (step + shift) * batch_size.
    """

    step: int = 0
    evaluated: int = 0  # the last step whose evaluation is recorded
    best: dict[str, float] | None = None  # step, loss and accuracy of the best evaluation
    lines: int = 0  # of metrics.jsonl
    window: TrainingSums = dataclasses.field(default_factory=TrainingSums)  # since the last record
    # Of --on_nan:
    skipped_in_a_row: int = 0  # steps up to the last one
    skipped: int = 0
    rollbacks: int = 0
    shift: int = 0  # batches that were passed over
    # Measured without the first loop of an attempt, evaluation and saving:
    timed_steps: int = 0
    timed_seconds: float = 0.0
    wait_seconds: float | None = None  # for input; None where it was never measured
    # Measured with everything, up to the last save of each attempt:
    wall_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Progress:
        """What `to_dict` returned, read again from somewhere; BadData says what of it is something else."""
        found = shapes.check(values, SHAPE, "progress")
        if more := sorted({*found} - {*SHAPE}) or sorted({*found["window"]} - {*SHAPE["window"]}):
            raise exits.BadData(f"progress has {printable(more[0])[:100]}, which this version of Convoy does not know.")
        progress = cls(**{**found, "window": TrainingSums(**found["window"])})
        if odd := progress._odd():
            raise exits.BadData(f"progress has {odd}, which no run comes to.")
        return progress

    def _odd(self) -> str:
        """What of it is not possible beside the rest; empty for nothing."""
        window, best = self.window, self.best or {"step": 0, "accuracy": 0.0}
        counts = [one for one in (*vars(self).values(), *vars(window).values()) if isinstance(one, int)]
        seconds = (self.timed_seconds, self.wait_seconds or 0.0, self.wall_seconds)
        impossible = {
            "a count below 0": min(*counts, best["step"]) < 0,
            "more steps than can be counted": max(self.step, self.shift) > MOST_STEPS,
            "an evaluation of a later step": max(self.evaluated, best["step"]) > self.step,
            "a best accuracy that is no share": not 0 <= best["accuracy"] <= 1,
            "more steps in a part than in all": max(window.steps, self.timed_steps, self.skipped) > self.step,
            "more steps skipped than made": not window.lossless <= window.skipped <= window.steps
            or self.skipped_in_a_row > self.skipped,
            "more examples right than seen": window.correct > window.examples,
            "steps without examples": (window.steps > 0) != (window.examples > 0),
            "seconds below 0": min(seconds) < 0,
        }
        return next((what for what, is_so in impossible.items() if is_so), "")

    def take(self, other: Progress) -> None:
        """Becomes what another one is."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))

    def better(self, step: int, metrics: dict[str, float]) -> bool:
        """Whether an evaluation is the best so far, by accuracy, then by loss; if so it is remembered."""
        found = {"step": step, "loss": metrics["loss"], "accuracy": metrics["accuracy"]}
        if self.best and (self.best["accuracy"], -self.best["loss"]) >= (found["accuracy"], -found["loss"]):
            return False
        self.best = found
        return True


SHAPE: Shape = get_type_hints(Progress) | {
    "best": ({"step": int, "loss": float, "accuracy": float}, None),
    "window": get_type_hints(TrainingSums),
    "wait_seconds": (float, None),
}
