"""What the loop asks of an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from data.sources.examples import Examples
from trainer.metrics import EvaluationSums


@dataclasses.dataclass(frozen=True)
class LoopResult:
    """A loop of optimizer steps. If `finite` is False its last step had a loss or gradient that is no finite number."""

    steps: int
    losses: np.ndarray  # float64 [steps], the loss of each global batch
    gradient_norms: np.ndarray  # float64 [steps], before clipping
    correct: int
    input_wait_seconds: float | None  # None where it cannot be measured
    finite: bool


class Engine(Protocol):
    """One model on some devices. State leaves and enters as NumPy arrays keyed by Keras variable paths."""

    description: str  # the devices for a person
    replicas: int
    parameters: int  # trainable numbers

    def feed(self, examples: Examples, first_step: int) -> None:
        """Prepares the training stream from step `first_step` on; each worker reads its slice of every batch only."""

    def train(self, steps: int) -> LoopResult:
        """Runs `steps` optimizer steps, fewer if one is not finite."""

    def evaluate(self, examples: Examples, stop: Callable[[], bool]) -> EvaluationSums | None:
        """Every example once, with the averaged weights if there are any; None if `stop` came true between batches."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on, besides the position: model, optimizer and average."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes up a state; ValueError names a tensor that is missing, left over or of another shape."""

    def agree(self, flag: bool) -> bool:
        """Whether any process raised its flag; every process must ask."""

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
