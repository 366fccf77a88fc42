"""What an evaluation measured, as Python's prompt and notebooks show it. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from convoy import shapes
from convoy.counting import counted
from convoy.outside import printable
from convoy.shapes import AnyFloat
from convoy.trainer.outputs import measured
from convoy.trainer.outputs.tables import html_table, text_table

_CLASS = {"count": int, "recall": (AnyFloat, None), "precision": (AnyFloat, None)}
_SHAPE = {
    "step": int,
    "split": str,
    "examples": int,
    "loss": AnyFloat,
    "accuracy": AnyFloat,
    "top5_accuracy?": AnyFloat,
    "mean_recall": (AnyFloat, None),
    "per_class": {str: _CLASS},
    "chose_checkpoint?": bool,
}
_HEADINGS = ("class", "examples", "recall", "precision")


@dataclasses.dataclass(frozen=True)
class ClassMeasurement:
    """Of one class: its examples; which share of them was recognised; which share of what was taken for it is it. The shares
    are None where there is nothing to divide by."""

    examples: int
    recall: float | None
    precision: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class Measurement:
    """A checkpoint, measured on a split of the data set.

    Attributes:
      step: of the checkpoint.
      split: what it was measured on.
      examples: how many these are.
      loss: cross-entropy, the mean over the examples.
      accuracy: from 0 to 1.
      top5_accuracy: how often the right class is among the five most probable; None where there are no more than five.
      mean_recall: over classes: balanced accuracy.
      per_class: by the name of the class.
      chose_checkpoint: whether these examples chose the best checkpoint, so that new ones are recognised a little less well.
    """

    step: int
    split: str
    examples: int
    loss: float
    accuracy: float
    top5_accuracy: float | None
    mean_recall: float | None
    per_class: Mapping[str, ClassMeasurement]
    chose_checkpoint: bool = False

    @classmethod
    def from_dict(cls, values: Any, source: str) -> Measurement:
        """What `convoy evaluate --output` writes; exits.BadData, a sentence that begins with `source`, for anything else."""
        values = shapes.check(values, _SHAPE, source)
        per_class = {
            name: ClassMeasurement(entry["count"], entry["recall"], entry["precision"])
            for name, entry in values["per_class"].items()
        }
        fields = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
        chose = values.get("chose_checkpoint", False)
        return cls(**{**fields, "per_class": per_class, "chose_checkpoint": chose})

    def __repr__(self) -> str:
        return text_table(_HEADINGS, self._rows(), self._sum())

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, self._rows(), self._sum())

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (printable(name), f"{entry.examples:,}", _share(entry.recall), _share(entry.precision))
            for name, entry in self.per_class.items()
        ]

    def _sum(self) -> str:
        note = measured.note(self.split, self.chose_checkpoint)
        return (
            f"step {self.step}: {self.accuracy:.2%} of {counted(self.examples, f'{printable(self.split)} example')} right"
            f" (loss {self.loss:.4f})" + (f"\nNote: {note}" if note else "")
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
