"""status.json: how far a run is, for whoever looks from elsewhere (`convoy launch status`)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from convoy import exits
from convoy.store import Store
from convoy.trainer.run_dir.files import STATUS

SECONDS_BETWEEN = 10.0
# The last write may take this long: a run that was asked to leave has little time.
_LAST_SECONDS = 3.0
# A local file in which a notebook watches a command, more often than a store should be written to.
WATCHED = "CONVOY_STATUS_FILE"
WATCHED_SECONDS = 0.25
_PHASES = {exits.OK: "finished", exits.TRY_AGAIN: "left", exits.STOPPED: "left"}


def let_watch(values: Mapping[str, Any]) -> None:
    """Writes how far a command is, `step` of `total` and more, to where whoever called it looks."""
    if place := os.environ.get(WATCHED):
        with contextlib.suppress(OSError):
            Path(place).write_text(json.dumps(values))


class Status:
    """Writes status.json every 10 s, and once more at the end with the exit code; use as a context.

    A thread writes. Updates that arrive while it writes are dropped, so slow storage delays nothing. Errors of the store are
    ignored: a run does not end because its status cannot be written.

    phase: starting; training; at the end finished, left (the same command goes on) or failed. After a crash it stays as it was;
    a stale `updated` shows that.
    """

    def __init__(self, store: Store):
        self._store = store
        self._values: dict[str, Any] = {}  # empty: this attempt has not begun, and has nothing to write
        self._pool = ThreadPoolExecutor(1, "status")
        self._writing: Future[None] | None = None
        self._written = -math.inf
        self._first: tuple[int, float] | None = None  # step and time after the first loop
        self._shown = -math.inf

    def begin(self, attempt: int, step: int, epoch: float, total: int) -> None:
        """Writes the first status; without it none is written."""
        self._values = {
            "phase": "starting",
            "step": step,
            "total": total,
            "epoch": epoch,
            "images_per_second": None,
            "loss": None,
            "input_wait": None,  # fraction of the time of steps
            "eta_seconds": None,  # with evaluations and saves as often as so far
            "attempt": attempt,
            "exit_code": None,
        }
        self._write()

    def update(self, step: int, epoch: float, images_per_second: float, wait: float | None, loss: float) -> None:
        """Takes the figures of a loop, as Display.update does."""
        now = time.monotonic()
        if self._first is None or step <= self._first[0]:  # a rollback leads back
            self._first = step, now
        first, since = self._first
        remaining = (self._values["total"] - step) * (now - since) / (step - first) if step > first else None
        self._values |= {
            "phase": "training",
            "step": step,
            "epoch": epoch,
            "images_per_second": round(images_per_second, 1),
            "loss": loss if math.isfinite(loss) else None,
            "input_wait": wait,
            "eta_seconds": None if remaining is None else round(remaining, 1),
        }
        if now - self._shown >= WATCHED_SECONDS:
            self._shown = now
            let_watch(self._values)
        if now - self._written >= SECONDS_BETWEEN and (self._writing is None or self._writing.done()):
            self._written = now
            self._write()

    def _write(self) -> None:
        let_watch(self._values)
        if self._store.url:
            text = json.dumps({**self._values, "updated": time.time()}, indent=1) + "\n"
            self._writing = self._pool.submit(self._put, text.encode())

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(exits.ConvoyError):
            self._store.put(STATUS, data)

    def __enter__(self) -> Status:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._values and self._values["exit_code"] is None:
            code = exits.OK if error is None else error.code if isinstance(error, exits.ConvoyError) else exits.BUG
            self._values |= {"phase": _PHASES.get(code, "failed"), "exit_code": code, "eta_seconds": None}
            self._write()
        if self._writing is not None:
            wait([self._writing], _LAST_SECONDS)
        self._pool.shutdown(wait=False)
