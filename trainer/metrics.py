"""Metrics as exact sums, which become ratios only at the end."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

# Classes by their training examples, from low up to but not including high (Liu et al. 2019, section 5).
GROUPS: dict[str, tuple[float, float]] = {"many": (101, math.inf), "medium": (20, 101), "few": (0, 20)}


@dataclasses.dataclass
class TrainingSums:
    """Sums over the steps since the last record.

    Attributes:
      loss: the sum of the losses of the steps, each a mean over its batch.
      skipped: steps whose gradient was not finite, and which changed nothing: by loss scaling or --on_nan=skip.
      lossless: those of the skipped steps whose loss was not finite either.
    """

    steps: int = 0
    loss: float = 0.0
    correct: int = 0
    examples: int = 0
    gradient_norm: float = 0.0
    skipped: int = 0
    lossless: int = 0

    def add(self, loss: float, norm: float) -> None:
        """Counts a step, its loss and its gradient's norm."""
        self.steps += 1
        if math.isfinite(loss):
            self.loss += loss
        else:
            self.lossless += 1
        if math.isfinite(norm) and math.isfinite(loss):
            self.gradient_norm += norm
        else:
            self.skipped += 1

    def metrics(self) -> dict[str, float | None]:
        """Means over the steps, and the accuracy over the augmented examples. The loss is None if no step had a finite one."""
        with_loss = self.steps - self.lossless
        metrics: dict[str, float | None] = {
            "loss": self.loss / with_loss if with_loss else None,
            "accuracy": self.correct / self.examples,
        }
        if self.skipped:
            metrics["skipped_steps"] = self.skipped
        if self.steps > self.skipped:
            metrics["gradient_norm"] = self.gradient_norm / (self.steps - self.skipped)
        return metrics


@dataclasses.dataclass
class EvaluationSums:
    """Sums over evaluated examples: integers, except for the loss. The arrays are int64 [classes]."""

    loss: float
    examples: int
    correct: int
    top5: int
    count: np.ndarray
    predicted: np.ndarray
    hit: np.ndarray

    @classmethod
    def zero(cls, classes: int) -> EvaluationSums:
        return cls(0.0, 0, 0, 0, *(np.zeros(classes, np.int64) for _ in range(3)))

    def add(self, other: EvaluationSums) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def metrics(self) -> dict[str, float]:
        """loss, accuracy and, with more than five classes, top5_accuracy."""
        metrics = {"loss": self.loss / self.examples, "accuracy": self.correct / self.examples}
        if len(self.count) > 5:
            metrics["top5_accuracy"] = self.top5 / self.examples
        return metrics

    def measurement(self, names: tuple[str, ...], trained: np.ndarray) -> dict[str, Any]:
        """An evaluation as result.json has it.

        Args:
          names: the classes.
          trained: int64 [classes], the training examples of each.
        """
        return {
            "examples": self.examples,
            **self.metrics(),
            "mean_recall": self._mean_recall(self.count > 0),
            "groups": {name: self._group((low <= trained) & (trained < high)) for name, (low, high) in GROUPS.items()},
            "per_class": self.per_class(names),
        }

    def _group(self, among: np.ndarray) -> dict[str, Any]:
        return {
            "classes": int(among.sum()),
            "examples": int(self.count[among].sum()),
            "recall": self._mean_recall(among & (self.count > 0)),
        }

    def _mean_recall(self, among: np.ndarray) -> float | None:
        """The mean over classes: balanced accuracy."""
        return float((self.hit[among] / self.count[among]).mean()) if among.any() else None

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Class -> count, recall and precision; None where there is nothing to divide by."""
        return {
            name: {
                "count": int(count),
                "recall": float(hit / count) if count else None,
                "precision": float(hit / predicted) if predicted else None,
            }
            for name, count, predicted, hit in zip(names, self.count, self.predicted, self.hit, strict=True)
        }
