"""How far a run is: the part of a checkpoint that is not tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from trainer.metrics import TrainingSums

_MOST = (
    1 << 44
)  # of anything counted: so many batches of a quarter of a million examples are still positions of 64 bits


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
        """What `to_dict` returned, read again from somewhere; ValueError says what of it is something else."""
        checked = _fields(cls, values, "progress")
        return cls(**{**checked, "window": TrainingSums(**checked["window"])})

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


def _fields(kind: type, values: object, name: str) -> Mapping[str, Any]:
    """The fields of a dataclass of this module, from an object that must have them all, each of its type."""
    types = get_type_hints(kind)
    if not isinstance(values, dict) or values.keys() != types.keys():
        raise ValueError(f"{name} does not have the fields that it should")
    for field, expected in types.items():
        if expected is TrainingSums:
            _fields(TrainingSums, values[field], field)
        elif not _fits(values[field], expected):
            raise ValueError(f"{name} has a {field} that is not possible")
    return values


def _fits(value: Any, expected: Any) -> bool:
    if expected == float | None:
        return value is None or _fits(value, float)
    if expected == dict[str, float] | None:
        return value is None or (isinstance(value, dict) and _is_best(value))
    if expected is int:
        return type(value) is int and 0 <= value < _MOST
    return type(value) in (int, float) and -1e300 < value < 1e300  # neither NaN nor an infinity


def _is_best(value: dict[Any, Any]) -> bool:
    kinds = {"step": int, "loss": float, "accuracy": float}
    return value.keys() == kinds.keys() and all(_fits(value[name], kind) for name, kind in kinds.items())
