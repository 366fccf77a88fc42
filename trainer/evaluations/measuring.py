"""What the additions of an evaluation share: the run, its measurement, and a way to measure once more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from convoy.data.sources.examples import Examples
from convoy.trainer import figures
from convoy.trainer.experiment import Experiment
from convoy.trainer.logits import Collector, Logits

LEVEL = 0.95
METHOD = "Wilson 1927"


class Outcome(NamedTuple):
    """What an addition found.

    Attributes:
      values: as JSON has them.
      lines: the same for a person.
    """

    values: dict[str, Any]
    lines: list[str]


@dataclasses.dataclass(frozen=True)
class Measuring:
    """A run that was measured on a split.

    Attributes:
      experiment: the run; its engine has the weights that are measured.
      split: the name of the split.
      examples: of the split.
      logits: of these examples.
      stop: whether to stop, asked between batches.
    """

    experiment: Experiment
    split: str
    examples: Examples
    logits: Logits
    stop: Callable[[], bool]

    @property
    def classes(self) -> int:
        return len(self.experiment.data.dataset.class_names)

    def measure(self, examples: Examples) -> Logits:
        """The logits of other examples, or of these in another form."""
        return logits_of(self.experiment, examples, self.stop)[1]


def logits_of(experiment: Experiment, examples: Examples, stop: Callable[[], bool]) -> tuple[Any, Logits]:
    """(EvaluationSums, Logits) of examples."""
    collector = Collector(examples.labels)
    sums = experiment.engine.evaluate(examples, stop, collector)
    assert sums is not None, "a signal leaves at once: there is nothing to save"
    return sums, collector.logits()


def accuracy(logits: Logits) -> dict[str, Any]:
    """Accuracy and its interval, as JSON has them."""
    share = figures.accuracy(logits)
    return (
        {"accuracy": share.value, "interval": [share.low, share.high]}
        if share
        else {"accuracy": None, "interval": None}
    )


def interval(low: float, high: float) -> str:
    """For a person."""
    return f"95% interval {100 * low:.2f} to {high:.2%}"
