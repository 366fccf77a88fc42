"""What bounds a run, in words: the step or the input."""

from __future__ import annotations

import shlex

from convoy.data.config import DataConfig

WORTH_SAYING = 0.1  # of the time


def input_advice(fraction: float | None, data: DataConfig) -> str:
    """A sentence for a run whose steps wait this fraction of the time for data; empty if that is little or not known."""
    if fraction is None or fraction < WORTH_SAYING:
        return ""
    return f"input-bound: {fraction:.0%} of the step waits for data; try {', '.join(remedies(data))}."


def remedies(data: DataConfig) -> list[str]:
    """What makes the input of these settings faster, the most effective first."""
    found = []
    kind = data.dataset.partition(":")[0]
    if kind == "folder":
        found.append(f"`convoy data pack --dataset={shlex.quote(data.dataset)} --out=DIR` and --dataset=records:DIR")
    # Random parts of the files of a folder are decoded as they are drawn, however much there is.
    if kind == "records" or (kind == "folder" and not data.recipe.least_area):
        found.append(f"a larger --cache_bytes (now {data.cache_bytes}) if the images fit into memory")
    if data.augment != "none":
        found.append(f"a cheaper --augment than {data.augment}")
    return [*found, "more CPU cores, which all work on the input"]
