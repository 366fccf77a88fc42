"""What a run writes down as it goes: metrics.jsonl, events.jsonl and TensorBoard's scalars."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from convoy import exits
from convoy.outside import below, parse_json
from convoy.store import Store
from convoy.trainer.outputs import records
from convoy.trainer.outputs.tensorboard import Board
from convoy.trainer.run_dir.files import EVENTS, METRICS, TENSORBOARD


class RecordListener(Protocol):
    """Gets the records of a run. One may come more than once, and after a rollback with other numbers."""

    def record(self, record: Mapping[str, Any]) -> None: ...


class Recorder:
    """Appends lines. After a resume nothing is repeated: lines past the restored step move to events.jsonl.

    Args:
      store: the run directory.
      attempt: which start of the run this is, from 1.
      listeners: get the lines of metrics.jsonl too: on a resume those that are kept, then each that is added.
    """

    def __init__(self, store: Store, attempt: int, listeners: tuple[RecordListener, ...] = ()):
        self.store, self.attempt, self._listeners = store, attempt, listeners
        self.lines = 0
        self._board: Board | None = None
        self._mirror: tempfile.TemporaryDirectory[str] | None = None

    def resume(self, lines: int, step: int) -> None:
        """Goes on after the first `lines` lines of metrics.jsonl, which is as far as the checkpoint of `step` knows."""
        written = records.lines(self.store, METRICS)
        kept, dropped = written[:lines], written[lines:]
        if len(kept) < lines:
            self.event("lost", lines=lines - len(kept), file=METRICS)
        if dropped:
            self.event("repeated", step=step, lines=[records.flat(line) for line in dropped])
            self.store.rewrite(METRICS, "".join(f"{line}\n" for line in kept))
        self.lines = len(kept)
        if self._listeners:
            for line in kept:
                self._pass_on(parse_json(line, METRICS, finite=False))
        if step and self._board is None:
            self._open_board(purge_from=step + 1)
        elif self._board is not None:
            self._board.purge(step + 1)

    def metrics(self, split: str, step: int, epoch: float, examples: int, **values: float | None) -> None:
        """One record of a split at a step, on every channel."""
        line = {"step": step, "epoch": epoch, "examples": examples, "time": time.time(), "split": split, **values}
        self.store.append(METRICS, json.dumps(line) + "\n")
        self.lines += 1
        self._pass_on(line)
        try:
            if self._board is None:
                self._open_board(purge_from=None)
            if self._board is not None:
                self._board.scalars(split, step, values)
        except OSError as error:
            raise exits.CannotRun(
                f"cannot write {self.store.url}/{TENSORBOARD}: {exits.reason(error)}; free some space there or choose"
                " another --run_dir; what was saved before is untouched."
            ) from error

    def _pass_on(self, record: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            listener.record(record)

    def event(self, event: str, **values: Any) -> None:
        line = {"event": event, "attempt": self.attempt, "time": time.time(), **values}
        self.store.append(EVENTS, json.dumps(line) + "\n")

    def flush(self) -> None:
        """Makes all of it durable; in a bucket, nothing is before."""
        if self._mirror is not None:
            for file in Path(self._mirror.name).iterdir():
                self.store.put(below(TENSORBOARD, file.name), file.read_bytes())
        self.store.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        self.flush()
        if self._mirror is not None:
            self._mirror.cleanup()

    def _open_board(self, purge_from: int | None) -> None:
        if not self.store.url:
            return  # a process that writes nothing
        folder = self.store.folder(TENSORBOARD)
        if folder is None:
            # TensorBoard's writer knows folders only; `flush` takes its files to where they belong.
            self._mirror = tempfile.TemporaryDirectory(prefix="convoy-tensorboard-")
            folder = Path(self._mirror.name)
        self._board = Board(str(folder), purge_from)
