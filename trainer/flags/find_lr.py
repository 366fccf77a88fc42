"""--find_lr, which is no flag of a run: `convoy train` trains none then. Imports nothing heavy."""

from __future__ import annotations

import dataclasses

from convoy.options import option


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """Whether to look for a learning rate."""

    find_lr: bool = option(
        False,
        "begin no run: train 100 steps at a learning rate that rises by the same factor each, draw the loss against it and name"
        " a rate, in a directory beside that of the run, RUN_DIR-find_lr (docs/large-batch.md).",
        group="Run",
    )
