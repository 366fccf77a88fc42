"""What a run's input should do better, in words."""

from __future__ import annotations

import pkgutil

from convoy.data.config import DataConfig

WORTH_SAYING = 0.1  # of the time


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
