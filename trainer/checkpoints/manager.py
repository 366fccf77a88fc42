"""Which checkpoints a run keeps, and which of them it continues from."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convoy import exits
from convoy.chaos import Chaos
from convoy.store import Data, Store
from convoy.trainer.checkpoints import format
from convoy.trainer.checkpoints.documents import Checkpoint, CorruptCheckpoint

_STEP = re.compile(r"[0-9]{1,18}")


class CheckpointManager:
    """The checkpoints of one attempt of a run: the `keep` newest and the best one stay. `chaos` learns where it is."""

    def __init__(self, store: Store, attempt: int, keep: int, chaos: Chaos | None = None):
        self.store, self.attempt, self.keep, self.chaos = store, attempt, keep, chaos or Chaos("")
        self.last: Checkpoint | None = None
        self._refused: set[Checkpoint] = set()

    def load_latest(
        self, check: Callable[[Mapping[str, np.ndarray]], None] = lambda tensors: None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Tensors and state of the newest complete checkpoint that is undamaged; None if none was ever completed.

        Prints on stderr which checkpoints it refused and why. Raises an error if all are damaged: starting over silently
        would throw the run away. `check` is that of format.read.
        """
        complete = format.complete(self.store)
        ending: type[exits.ConvoyError] = exits.CannotRun
        for checkpoint in reversed(complete):
            try:
                tensors, state = format.read(self.store, checkpoint, check)
            except CorruptCheckpoint as error:
                print(f"convoy: the checkpoint {checkpoint.folder} is refused: {error}.", file=sys.stderr)
                self._refused.add(checkpoint)
                ending = error.ending
                continue
            self.last = checkpoint
            return tensors, state
        if complete:
            raise ending(
                f"every checkpoint in {self.store.url} is damaged; restore {complete[-1].folder} from a copy, or choose another"
                " --run_dir to start over."
            )
        return None

    def save(
        self,
        checkpoint: Checkpoint,
        files: Mapping[str, Data],
        tensors: Mapping[str, list[str]],
        state: Mapping[str, Any],
        best_step: int | None,
    ) -> None:
        """Writes a checkpoint (see format.write), then removes what need not stay."""
        on_phase = functools.partial(self._on_phase, checkpoint.step)
        try:
            format.write(self.store, checkpoint, files, tensors, state, on_phase)
        except exits.ConvoyError:
            with contextlib.suppress(exits.ConvoyError):
                format.remove(self.store, checkpoint)  # half a checkpoint would take the space that is missing
            raise
        self.last = checkpoint
        usable = [checkpoint for checkpoint in format.complete(self.store) if checkpoint not in self._refused]
        best = max((checkpoint for checkpoint in usable if checkpoint.step == best_step), default=None)
        for old in usable[: -self.keep]:
            # One that has a later attempt is the work of whoever took this run over.
            if old != best and old.attempt <= self.attempt:
                format.remove(self.store, old, on_phase)

    def clean(self, step: int) -> None:
        """Removes what earlier attempts left half-written; this process holds the lock of the run, which is at `step`."""
        for checkpoint in format.incomplete(self.store):
            if checkpoint.attempt < self.attempt:
                format.remove(self.store, checkpoint, functools.partial(self._on_phase, step))

    def _on_phase(self, step: int, phase: str) -> None:
        self.chaos.at(phase, step)


def find(store: Store, which: str) -> Checkpoint:
    """last, best or a step -> that checkpoint, by its manifest; CannotRun if the run has no such one."""
    if which not in ("last", "best") and not _STEP.fullmatch(which):
        raise exits.CannotRun(f"--checkpoint={which} is not possible: give last, best or a step.")
    complete = format.complete(store)
    if not complete:
        raise exits.CannotRun(f"{store.url} has no checkpoint yet; train first.")
    if which == "last":
        return complete[-1]
    try:
        step = _best_step(store, format.read_state(store, complete[-1])) if which == "best" else int(which)
    except CorruptCheckpoint as error:
        raise error.ending(f"{store.url}/{complete[-1].folder} is damaged: {error}; give a step.") from error
    of_step = [checkpoint for checkpoint in complete if checkpoint.step == step]
    if not of_step:
        steps = ", ".join(str(checkpoint.step) for checkpoint in complete)
        raise exits.CannotRun(f"{store.url} has no checkpoint of step {step}; it has those of {steps}.")
    return of_step[-1]


def select(store: Store, which: str) -> tuple[Checkpoint, dict[str, np.ndarray], dict[str, Any]]:
    """last, best or a step -> that checkpoint, its tensors and state; an error if the run has no such one, undamaged.

    The last one is the one that the run would continue from.
    """
    manager = CheckpointManager(store, 0, 1)
    loaded = manager.load_latest()
    if loaded is None or manager.last is None:
        raise exits.CannotRun(f"{store.url} has no checkpoint yet; train first.")
    if which == "last":
        return manager.last, *loaded
    wanted = find(store, str(_best_step(store, loaded[1])) if which == "best" else which)
    try:
        return wanted, *format.read(store, wanted)
    except CorruptCheckpoint as error:
        raise error.ending(f"{store.url}/{wanted.folder} is damaged: {error}; give another --checkpoint.") from error


def weights(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Path -> value of each of a model's variables in a checkpoint's tensors: averaged if the run kept an average."""
    saved = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    return {path: tensors.get(f"ema/{path}", tensor) for path, tensor in saved.items()}


def _best_step(store: Store, state: dict[str, Any]) -> int:
    best = state["progress"]["best"]
    if not best:
        raise exits.CannotRun(
            f"--checkpoint=best, but the run in {store.url} held no examples out to choose one; give last or a step."
        )
    return int(best["step"])
