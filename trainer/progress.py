"""How far a run is: the part of a checkpoint that is not tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainer.metrics import TrainingSums


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
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        return cls(**{**values, "window": TrainingSums(**values["window"])})

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
