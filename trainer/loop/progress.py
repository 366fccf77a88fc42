"""How far a run is: the part of a checkpoint that is not tensors."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from convoy import exits, shapes
from convoy.outside import printable
from convoy.shapes import Shape
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import MAX_EXAMPLES, MAX_STEPS
from convoy.trainer.metrics import TrainingSums
from convoy.trainer.noise_scale import NoiseAverages


@dataclasses.dataclass
class Progress:
    """Counters of a run over all its attempts. The data state is one of them: `position`."""

    step: int = 0
    position: int = 0  # of the next example, in the stream of training examples
    evaluated: int = 0  # the last step whose evaluation is recorded
    best: dict[str, float] | None = None  # step, loss and accuracy of the best evaluation
    # Of --patience:
    evaluations_since_best: int = 0
    total_cut_short: int = 0  # the steps of the plan that it ended at this step; 0 where it did not
    lines: int = 0  # of metrics.jsonl
    window: TrainingSums = dataclasses.field(default_factory=TrainingSums)  # since the last record
    # Of --on_nan:
    skipped_in_a_row: int = 0  # steps up to the last one
    skipped: int = 0
    rollbacks: int = 0
    # Measured in training alone, without compilation, evaluation and saving:
    timed_steps: int = 0
    timed_examples: int = 0
    timed_seconds: float = 0.0
    wait_seconds: float | None = None  # for input; None where it was never measured
    # Measured with everything, up to the last save of each attempt:
    wall_seconds: float = 0.0
    noise: NoiseAverages | None = None  # of --noise_scale; None without it

    def to_dict(self) -> dict[str, Any]:
        """JSON of which `from_dict` makes the same bits again. A run without --noise_scale says nothing of it."""
        values = dataclasses.asdict(self)
        return values if self.noise else {name: value for name, value in values.items() if name != "noise"}

    @classmethod
    def from_dict(cls, values: object, clock: Clock) -> Progress:
        """The inverse of to_dict. Raises BadData, which names the value that no run could have.

        Args:
          values: what a checkpoint holds. Older ones have `shift` for `position`, batches that rollbacks had passed over, and
            no `timed_examples`.
          clock: the run's, which makes examples of these steps.
        """
        known = _with_later_values(_with_position(values, clock), clock)
        shapes.check(known, SHAPE, "progress")
        window, noise = known["window"], known["noise"]
        parts = ((known, SHAPE), (window, SHAPE["window"]), (noise or {}, _NOISE))
        if more := [name for part, shape in parts for name in sorted({*part} - {*shape})]:
            raise exits.BadData(f"progress has {printable(more[0])[:100]}, which this version of Convoy does not know.")
        averages = None if noise is None else NoiseAverages(**noise)
        progress = cls(**{**known, "window": TrainingSums(**window), "noise": averages})
        if odd := progress._odd():
            raise exits.BadData(f"progress has {odd}, which no run comes to.")
        return progress

    def _odd(self) -> str:
        """Which value is not possible beside the others; empty if all are."""
        window, best, noise = self.window, self.best or {"step": 0, "accuracy": 0.0}, self.noise or NoiseAverages()
        counts = [count for count in (*vars(self).values(), *vars(window).values()) if isinstance(count, int)]
        seconds = (self.timed_seconds, self.wait_seconds or 0.0, self.wall_seconds)
        impossible = {
            "a count below 0": min(*counts, best["step"], noise.steps) < 0,
            "more steps than can be counted": max(self.step, self.total_cut_short) > MAX_STEPS,
            "a position that cannot be counted": max(self.position, self.timed_examples) > MAX_POSITION,
            "a position before that of its step": self.position < self.step,
            "an evaluation of a later step": max(self.evaluated, best["step"]) > self.step,
            "a best accuracy that is no share": not 0 <= best["accuracy"] <= 1,
            "more evaluations than steps": self.evaluations_since_best > self.step,
            "more steps in a part than in all": max(window.steps, self.timed_steps, self.skipped, noise.steps)
            > self.step,
            "more steps skipped than made": not window.lossless <= window.skipped <= window.steps
            or self.skipped_in_a_row > self.skipped,
            "more examples right than seen": window.correct > window.examples,
            "steps without examples": (window.steps > 0) != (window.examples > 0)
            or self.timed_examples < self.timed_steps,
            "seconds below 0": min(seconds) < 0,
        }
        return next((what for what, is_so in impossible.items() if is_so), "")

    def better(self, step: int, metrics: dict[str, float]) -> bool:
        """Whether an evaluation is the best so far, by accuracy, then by loss; if so it is remembered, else counted."""
        evaluation = {"step": step, "loss": metrics["loss"], "accuracy": metrics["accuracy"]}
        if self.best and (self.best["accuracy"], -self.best["loss"]) >= (
            evaluation["accuracy"],
            -evaluation["loss"],
        ):
            self.evaluations_since_best += 1
            return False
        self.best, self.evaluations_since_best = evaluation, 0
        return True


_NOISE: Shape = get_type_hints(NoiseAverages)
SHAPE: Shape = get_type_hints(Progress) | {
    "best": ({"step": int, "loss": float, "accuracy": float}, None),
    "window": get_type_hints(TrainingSums),
    "wait_seconds": (float, None),
    "noise": (_NOISE, None),
}
MAX_POSITION = 2 * MAX_STEPS * MAX_EXAMPLES


def _with_position(values: Any, clock: Clock) -> Any:
    """The values of an older version with `position` in place of `shift`; any others as they are."""
    if not isinstance(values, dict) or "shift" not in values or "position" in values:
        return values
    shapes.check(values, {"step": int, "shift": int}, "progress")
    if not 0 <= values["shift"] <= MAX_STEPS:
        raise exits.BadData("progress has a shift that no run comes to.")
    rest = {name: value for name, value in values.items() if name != "shift"}
    return rest | {"position": clock.position(values["step"] + values["shift"])}


def _with_later_values(values: Any, clock: Clock) -> Any:
    """The values with what versions without --patience or --batch_ramp, or a run without --noise_scale, leave out."""
    if not isinstance(values, dict):
        return values
    values = {"evaluations_since_best": 0, "total_cut_short": 0, "noise": None} | values
    if "timed_examples" in values:
        return values
    steps = values.get("timed_steps")
    counts = type(steps) is int and 0 <= steps <= MAX_STEPS  # or it is refused for that
    return values | {"timed_examples": clock.position(steps) if counts else 0}
