"""Saving beside training: steps go on while a checkpoint is on its way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

from convoy import exits
from convoy.trainer.checkpoints.documents import Checkpoint
from convoy.trainer.checkpoints.manager import CheckpointManager
from convoy.trainer.checkpoints.snapshot import Shapes, Snapshot
from convoy.trainer.outputs.recorder import Recorder


class Saver:
    """Writes checkpoints, one at a time; use as a context, which is left when the last one is written.

    Training stops while its state is copied, and until the save before is done if that is still on its way. An error of the
    background thread is raised by the next call of any method.
    """

    def __init__(self, manager: CheckpointManager, shapes: Shapes, recorder: Recorder):
        self.manager, self.recorder = manager, recorder
        self._snapshot = Snapshot(shapes)
        self._pool = ThreadPoolExecutor(1, "save")
        self._pending: Future[None] | None = None

    def save(
        self, step: int, tensors: Iterable[tuple[str, np.ndarray]], state: Mapping[str, Any], best_step: int | None
    ) -> float:
        """Begins to save, and returns the seconds that it waited for the save before; NotFinite names a tensor with NaN."""
        begun = time.perf_counter()
        self.join()
        waited = time.perf_counter() - begun
        checkpoint = Checkpoint(step, self.manager.attempt)
        if self.manager.last == checkpoint:
            return waited  # a signal came right after it was saved
        files = self._snapshot.write(tensors)
        blocked = time.perf_counter() - begun

        def write() -> None:
            self.manager.save(checkpoint, files, self._snapshot.tensors, state, best_step)
            self.recorder.event("saved", step=step, seconds=time.perf_counter() - begun, blocked=blocked, waited=waited)

        self._pending = self._pool.submit(write)
        return waited

    def check(self) -> None:
        """Raises the error of a save that has ended."""
        if self._pending and self._pending.done():
            self.join()

    def join(self) -> None:
        """Waits for the save that is on its way, and raises its error."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where the run ends with an error, that error is raised, and not the save's.
        with contextlib.suppress(exits.ConvoyError) if error else contextlib.nullcontext():
            self.join()
            self.recorder.flush()
        self._pool.shutdown()
