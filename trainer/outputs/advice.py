"""What a run should do better, in words."""

from __future__ import annotations

import math
import pkgutil

from convoy.counting import counted
from convoy.data.config import DataConfig
from convoy.trainer.metrics import EvaluationSums

WORTH_SAYING = 0.1  # of the time
_STALE = 0.02  # of an average: more of what it began with shows in evaluations


def input_advice(fraction: float | None, data: DataConfig) -> str:
    """A sentence for a run whose steps wait this fraction of the time for data; empty if that is little or not known."""
    if fraction is None or fraction < WORTH_SAYING:
        return ""
    return f"input-bound: {fraction:.0%} of the step waits for data; try {', '.join(remedies(data))}."


def remedies(data: DataConfig) -> list[str]:
    """What makes the input of these settings faster, the most effective first."""
    of_source = data.dataset_spec.source.remedies
    of_its_own = pkgutil.resolve_name(of_source)(data) if of_source else []
    augment = [f"a cheaper --augment than {data.augment}"] if data.augment != "none" else []
    return [*of_its_own, *augment, "more CPU cores, which all work on the input"]


def chance_advice(trained: float | None, sums: EvaluationSums, momentum: float | None, steps: int) -> str:
    """A sentence for an evaluation that finds no more than chance although training finds the classes; empty for any other.

    Args:
      trained: the accuracy of the steps before it.
      sums: of the evaluation.
      momentum: the largest of the network's BatchNormalization layers; None without one.
      steps: made so far.
    """
    commonest = int(sums.count.max()) / sums.examples
    deviation = math.sqrt(commonest * (1 - commonest) / sums.examples)
    accuracy = sums.correct / sums.examples
    if (
        trained is None
        or not 0 < commonest < 1
        or accuracy > commonest + 2 * deviation
        or trained < (1 + commonest) / 2
    ):
        return ""
    causes = ["held-out images of another kind, or with other labels", "a layer that does something else in training"]
    if momentum and (rest := momentum**steps) >= _STALE:
        causes.insert(
            0,
            f"BatchNormalization, whose averages are still {rest:.0%} what they began with, after {counted(steps, 'step')} of"
            f" momentum {momentum:g} (build its layers with momentum=0.9, or train longer)",
        )
    symptom = f"evaluation is at chance ({accuracy:.1%}) while training is right ({trained:.1%})"
    return f"{symptom}; likely causes: {'; '.join(causes)}."
