"""Which checkpoints a run keeps, and which one it goes on from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convoy import exits
from convoy.store import Store
from trainer.checkpoints import format
from trainer.checkpoints.format import Checkpoint, Damaged


class Keeper:
    """The checkpoints of one attempt of a run: the `keep` newest and the best one stay."""

    def __init__(self, store: Store, attempt: int, keep: int):
        self.store, self.attempt, self.keep = store, attempt, keep
        self.last: Checkpoint | None = None
        self._refused: set[Checkpoint] = set()

    def newest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Tensors and state of the newest complete checkpoint that is undamaged; None if none was ever completed.

        Says on stderr which ones it refused and why. If all are damaged it raises CannotRun: starting over silently would
        throw the run away.
        """
        found = format.complete(self.store)
        for checkpoint in reversed(found):
            try:
                tensors, state = format.read(self.store, checkpoint)
            except Damaged as error:
                print(f"convoy: the checkpoint {checkpoint.folder} is refused: {error}.", file=sys.stderr)
                self._refused.add(checkpoint)
                continue
            self.last = checkpoint
            return tensors, state
        if found:
            raise exits.CannotRun(
                f"every checkpoint in {self.store.url} is damaged; restore {found[-1].folder} from a copy, or choose another"
                " --run_dir to start over."
            )
        return None

    def save(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        best_step: int | None,
        before_manifest: Callable[[], None],
    ) -> None:
        """Writes the checkpoint of `step`, then removes what need not stay."""
        checkpoint = Checkpoint(step, self.attempt)
        if self.last == checkpoint:
            return  # a signal came right after it was saved
        format.write(self.store, checkpoint, tensors, state, before_manifest)
        self.last = checkpoint
        usable = [one for one in format.complete(self.store) if one not in self._refused]
        for old in usable[: -self.keep]:
            if old.step != best_step:
                format.remove(self.store, old)

    def clean(self) -> None:
        """Removes what earlier attempts left half-written; this process holds the lock of the run."""
        for checkpoint in format.incomplete(self.store):
            format.remove(self.store, checkpoint)


def select(store: Store, which: str) -> tuple[Checkpoint, dict[str, np.ndarray]]:
    """last, best or a step -> that checkpoint and its tensors; CannotRun if the run has no such one, undamaged."""
    found = format.complete(store)
    if not found:
        raise exits.CannotRun(f"{store.url} has no checkpoint yet; train first.")
    wanted = found[-1]
    try:
        if which != "last":
            step = int(which) if which.isdecimal() else _best_step(store, found[-1])
            there = [one for one in found if one.step == step]
            if not there:
                steps = ", ".join(str(one.step) for one in found)
                raise exits.CannotRun(f"{store.url} has no checkpoint of step {step}; it has those of {steps}.")
            wanted = there[-1]
        return wanted, format.read(store, wanted)[0]
    except Damaged as error:
        raise exits.CannotRun(f"{store.url}/{wanted.folder} is damaged: {error}; give another --checkpoint.") from error


def _best_step(store: Store, newest: Checkpoint) -> int:
    best = format.read(store, newest)[1]["progress"]["best"]
    if not best:
        raise exits.CannotRun(
            f"--checkpoint=best, but the run in {store.url} held no examples out to choose one; give last or a step."
        )
    return int(best["step"])
