"""Weights & Biases: a run whose id is the run's own. A step is one row there, and rows are written in order."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from convoy.trainer.loggers.base import PROJECT, RunFacts
from convoy.trainer.loggers.wandb_files import next_step


class WandbLogger:
    """See base.Logger. WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_DIR and their like say where it writes.

    A row is written when the step is complete: with its evaluation, where the run evaluates. An attempt that ends between the
    two leaves the row to the next attempt.
    """

    def __init__(self, facts: RunFacts):
        with _no_terminal():
            import wandb

            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or PROJECT,
                name=os.environ.get("WANDB_NAME") or facts.name,
                id=facts.run_id,
                resume="allow",
                config={**facts.flags, **facts.links},
                allow_val_change=True,
                settings=wandb.Settings(console="off", silent=True),
            )
        self._links, self._evaluates = facts.links, facts.evaluates
        # Offline the service cannot be asked, but what would be brought to it lies beside the new file.
        if self._run.offline:
            file = Path(self._run.settings.sync_file)
            self.place, self._first = str(file.parent), next_step(file, facts.run_id)
        else:
            self.place, self._first = self._run.url or "nowhere", self._run.starting_step
        self._step, self._row = 0, dict[str, float]()

    def has(self, name: str, step: int) -> bool:
        return step < self._first

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        if step != self._step:
            self._write_row()
        self._step = step
        self._row |= values
        if not self._evaluates or any(name.startswith("eval/") for name in values):
            self._write_row()

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        self._write_row()
        self._run.summary.update({**figures, **self._links})

    def close(self, code: int) -> None:
        self._run.finish(exit_code=code)

    def _write_row(self) -> None:
        if self._row:
            self._run.log(dict(self._row), step=self._step, commit=True)
            self._row.clear()


@contextlib.contextmanager
def _no_terminal() -> Iterator[None]:
    """Within, standard input is no terminal: without a key the library would ask for one there, and wait."""
    terminal = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = terminal
