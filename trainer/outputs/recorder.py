"""What a run writes down as it goes: metrics.jsonl, events.jsonl and TensorBoard's scalars."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convoy import exits, shapes
from convoy.outside import Name, below, parse_json
from convoy.shapes import AnyFloat, Shape
from convoy.store import Store
from convoy.trainer.outputs import goodput
from convoy.trainer.run_dir.files import BAD_IMAGES, EVENTS, METRICS, TENSORBOARD

MAX_ATTEMPTS = 1_000_000_000
_RECORD = {"step": int, "epoch": float, "split": str, "loss?": (AnyFloat, None), "accuracy?": (AnyFloat, None)}
_EVENT = {"event": str, "attempt": int, "time": float}
_BAD_IMAGE = {"split": str, "path": str}


_JOURNAL_BYTES = 1 << 30  # a record takes some 150: millions of evaluations


class Recorder:
    """Appends lines. After a resume nothing is repeated: lines past the restored step move to events.jsonl.

    Args:
      store: the run directory.
      attempt: which start of the run this is, from 1.
    """

    def __init__(self, store: Store, attempt: int):
        self.store, self.attempt = store, attempt
        self.lines = 0
        self._board: Any = None
        self._mirror: tempfile.TemporaryDirectory[str] | None = None

    def resume(self, lines: int, step: int) -> None:
        """Goes on after the first `lines` lines of metrics.jsonl, which is as far as the checkpoint of `step` knows."""
        found = _lines(self.store, METRICS)
        kept, dropped = found[:lines], found[lines:]
        if len(kept) < lines:
            self.event("lost", lines=lines - len(kept), file=METRICS)
        if dropped:
            self.event("repeated", step=step, lines=[_loads(line) for line in dropped])
            self.store.rewrite(METRICS, "".join(f"{line}\n" for line in kept))
        self.lines = len(kept)
        if step and self._board is None:
            self._open_board(purge_from=step + 1)
        elif self._board is not None:
            self._board.purge(step + 1)

    def metrics(self, split: str, step: int, epoch: float, examples: int, **values: float | None) -> None:
        """One record of a split at a step, on every channel."""
        line = {"step": step, "epoch": epoch, "examples": examples, "time": time.time(), "split": split, **values}
        self.store.append(METRICS, json.dumps(line) + "\n")
        self.lines += 1
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
        self._board = _Board(str(folder), purge_from)


class _Board:
    """TensorBoard's event file, through its own writer."""

    def __init__(self, folder: str, purge_from: int | None):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._log = event_pb2.SessionLog
        self._writer = EventFileWriter(folder)
        if purge_from is not None:
            self.purge(purge_from)

    def purge(self, step: int) -> None:
        """Makes TensorBoard forget what was drawn from a step on, which is repeated."""
        start = self._log(status=self._log.START)
        self._writer.add_event(self._event(step=step, wall_time=time.time(), session_log=start))

    def scalars(self, split: str, step: int, values: dict[str, float | None]) -> None:
        points = [
            self._summary.Value(tag=f"{split}/{name}", simple_value=value)
            for name, value in values.items()
            if value is not None
        ]
        self._writer.add_event(self._event(step=step, wall_time=time.time(), summary=self._summary(value=points)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def read_metrics(store: Store, most: int | None = None) -> list[dict[str, Any]]:
    """Every record of a run, in order, or the first ones; exits.BadData for a line that is none."""
    found = []
    for number, line in enumerate(_lines(store, METRICS)[:most], 1):
        place = f"{store.url}/{METRICS}, line {number},"
        with _mendable(METRICS):
            found.append(shapes.check(parse_json(line, place, finite=False), _RECORD, place))
    return found


def read_events(store: Store) -> list[dict[str, Any]]:
    """Every event of a run, in order; a line that a death cut short is left out."""
    events = _journal(store, EVENTS, _EVENT)
    for event in events:
        with _mendable(EVENTS):
            shapes.check(event, goodput.SHAPES.get(event["event"], {}), f"{store.url}/{EVENTS}: {event['event']}")
    return events


def read_bad_images(store: Store) -> list[dict[str, Any]]:
    """What convoy.data.images.unreadable wrote before; a line that a death cut short is left out."""
    return _journal(store, BAD_IMAGES, _BAD_IMAGE)


def check(store: Store, lines: int) -> None:
    """exits.BadData if what a run of `lines` records left cannot be gone on with: before its first step, not after its last."""
    read_metrics(store, lines)
    read_events(store)
    read_bad_images(store)


def attempts(store: Store) -> int:
    """The largest number of an attempt that any event has; 0 for none."""
    return max((line["attempt"] for line in read_events(store)), default=0)


def _journal(store: Store, name: Name, shape: Shape) -> list[dict[str, Any]]:
    """Lines of a file that are added at any time, so that a death may cut one short."""
    found = []
    for number, line in enumerate(_lines(store, name), 1):
        place = f"{store.url}/{name}, line {number},"
        try:
            value = parse_json(line, place, finite=False)
        except exits.BadData:
            continue
        with _mendable(name):
            found.append(shapes.check(value, shape, place))
    return found


@contextlib.contextmanager
def _mendable(name: Name) -> Iterator[None]:
    try:
        yield
    except exits.BadData as error:
        raise exits.BadData(
            f"{str(error).rstrip('.')}. Remove the line, or {name}: the run goes on without it."
        ) from error


def _lines(store: Store, name: Name) -> list[str]:
    try:
        text = store.get(name, max_bytes=_JOURNAL_BYTES).decode()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise exits.BadData(
            f"{store.url}/{name} is no text in UTF-8 ({error.reason} at byte {error.start}); remove it: the run goes on"
            " without it."
        ) from error
    return text.removesuffix("\n").split("\n") if text else []


def _loads(line: str) -> Any:
    """A record as JSON; a line that a death cut short, or that is something else, stays text."""
    try:
        value = parse_json(line, METRICS, finite=False)
    except exits.BadData:
        return line
    flat = isinstance(value, dict) and not any(isinstance(one, dict | list) for one in value.values())
    return value if flat else line
