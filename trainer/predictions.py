"""What a model says of an image, and how it is written: lines of JSON, CSV, HTML. Imports nothing heavy."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, overload

from convoy import shapes
from convoy.bounds import whole
from convoy.outside import parse_object, printable
from convoy.trainer.outputs.tables import html_table, text_table

_SHAPE = {
    "file": str,
    "classes?": [{"name": str, "index": whole(0, 1 << 62), "probability": float}],
    "error?": str,
}
_SHOWN = 20  # predictions that a notebook or Python's prompt shows


@dataclasses.dataclass(frozen=True)
class Guess:
    """A class that an image may show.

    Attributes:
      name: of the class.
      index: of its logit.
      probability: from 0 to 1, by the softmax of all logits.
    """

    name: str
    index: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of a file.

    Attributes:
      file: its path, as it was named or listed.
      guesses: the most probable classes, the best first; none for a file that could not be read.
      error: why it could not be read, to follow its path in a sentence; "" if it was.
    """

    file: str
    guesses: tuple[Guess, ...] = ()
    error: str = ""

    @property
    def name(self) -> str:
        """The most probable class; "" for a file that could not be read."""
        return self.guesses[0].name if self.guesses else ""

    @property
    def probability(self) -> float | None:
        """Of the most probable class; None for a file that could not be read."""
        return self.guesses[0].probability if self.guesses else None

    def to_json(self) -> str:
        """One line, ASCII: {"file", "classes": [{"name", "index", "probability"}]}, or {"file", "error"}."""
        if self.error:
            return json.dumps({"file": self.file, "error": self.error})
        return json.dumps({"file": self.file, "classes": [dataclasses.asdict(guess) for guess in self.guesses]})

    @classmethod
    def from_json(cls, line: str | bytes, source: str) -> Prediction:
        """The inverse of to_json; exits.BadData, a sentence that begins with `source`, for anything else."""
        values = shapes.check(parse_object(line, source), _SHAPE, source)
        guesses = (Guess(guess["name"], guess["index"], guess["probability"]) for guess in values.get("classes", ()))
        return cls(values["file"], tuple(guesses), values.get("error", ""))

    def to_csv(self, top: int) -> str:
        """A line for the head of `csv_head(top)`."""
        cells: list[Any] = [self.file, self.error]
        for guess in self.guesses:
            cells += [guess.name, repr(guess.probability)]
        return _csv_line(cells + [""] * (2 + 2 * top - len(cells)))

    def described(self) -> tuple[str, str, str, str]:
        """The cells of a person's table: file, class, its probability, and the next classes with theirs; printable."""
        if self.error:
            return printable(self.file), "", "", printable(self.error)
        (first, *others) = self.guesses
        behind = ", ".join(f"{guess.name} {guess.probability:.1%}" for guess in others)
        return printable(self.file), printable(first.name), f"{first.probability:.1%}", printable(behind)


HEADINGS = ("file", "class", "probability", "then")


def csv_head(top: int) -> str:
    """file,error,class_1,probability_1,class_2,..."""
    return _csv_line(
        ["file", "error", *(f"{name}_{place}" for place in range(1, top + 1) for name in ("class", "probability"))]
    )


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


class Predictions(Sequence[Prediction]):
    """Predictions in the order of their files; Python's prompt and notebooks show them as a table."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._predictions = tuple(predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            return Predictions(self._predictions[index])
        return self._predictions[index]

    def __len__(self) -> int:
        return len(self._predictions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predictions) and self._predictions == other._predictions

    def __hash__(self) -> int:
        return hash(self._predictions)

    def __repr__(self) -> str:
        return text_table(HEADINGS, [prediction.described() for prediction in self[:_SHOWN]], self._beyond())

    def _repr_html_(self) -> str:
        return html_table(HEADINGS, [prediction.described() for prediction in self[:_SHOWN]], self._beyond())

    def _beyond(self) -> str:
        return f"and {len(self) - _SHOWN:,} more" if len(self) > _SHOWN else ""
