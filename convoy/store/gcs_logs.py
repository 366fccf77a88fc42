"""Files that grow, in a place where objects do not: appended text as numbered objects, joined at the end.

A log NAME is an object NAME, or none, and segments NAME.segments/000001 and so on. Its text is that of the object, then
that of every segment with a number above the one that the object's metadata gives: up to there it contains them. Numbers
only grow. A death between any two requests leaves that text right:

- A segment is one request, which succeeds only if its number is free. It is there as a whole or not at all; after a lost
  answer it is found to be ours. Text that was not flushed is lost, as the interface says.
- Joining writes the object and the number that it contains in one request. Before it, the text is the old object and
  the segments; after it, the new object alone, whether or not the segments are still there, because their numbers are
  not above. Only then are they removed, and `sweep` removes what a death left of them.
- A writer that was taken over unnoticed cannot write into the middle: its next number is taken, and the object no longer
  has the generation that it expects.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from convoy import exits
from convoy.outside import printable
from convoy.store.gcs_bucket import Bucket

FOLDER = ".segments/"
_SEGMENT = re.compile(r"(.*)\.segments/([0-9]{6,18})", re.DOTALL)
_CONTAINED = "convoy-segments"


@dataclass
class _Log:
    """What the one writer of a log knows of it."""

    generation: int = 0  # of the object, 0 if there is none
    last: int = 0  # the highest number that was ever given
    live: dict[str, int] = field(default_factory=dict)  # the segments that are there, and their generations
    known: bool = False  # whether the above was read from the bucket
    pending: str = ""  # what is being uploaded as the segment after the last
    spooled: str = ""


class Logs:
    """All logs of a run directory, by their objects' full names. Threads may call all of it at once."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()  # of spooled texts and the table; never held during a request
        self._upload = threading.Lock()  # one change of the bucket at a time

    def append(self, name: str, text: str) -> None:
        with self._lock:
            self._logs.setdefault(name, _Log()).spooled += text

    def flush(self) -> None:
        with self._upload:
            for name in list(self._logs):
                self._flush(name)

    def get(self, name: str, max_bytes: int) -> bytes:
        """The text of a log, or of any object, with what this process has yet to upload.

        Raises:
          FileNotFoundError: there is neither an object nor a segment, nor any such text.
          exits.BadData: the stored ones have more than `max_bytes`.
        """
        # No upload between the two: its text would be there twice. Of other objects many may be read at once.
        with self._upload if name in self._logs else contextlib.nullcontext():
            with self._lock:
                log = self._logs.get(name, _Log())
                rest = log.pending + log.spooled
            parts = self._stored(name, max_bytes)
        if not parts and not rest:
            raise FileNotFoundError(self._bucket.url(name))
        return _joined([*parts, rest.encode()])

    def rewrite(self, name: str, data: bytes) -> None:
        """Replaces a log as a whole, with what was spooled."""
        with self._upload:
            with self._lock:
                log = self._logs.setdefault(name, _Log())
                # What was being uploaded may have arrived without our knowing.
                lost = bool(log.pending)
                log.pending = log.spooled = ""
            self._know(name, log)
            if lost:
                log.last += 1
                segment = _segment(name, log.last)
                log.live[segment] = self._bucket.generation(segment)
            self._replace(name, log, data)

    def close(self, prefix: str) -> None:
        """Flushes and joins every log below a prefix, also those of earlier writers."""
        self.flush()
        for name in sorted({parts[0] for blob in self._bucket.entries(prefix) if (parts := split(blob.name))}):
            with self._upload:
                log = self._logs.setdefault(name, _Log())
                self._know(name, log)
                self._replace(name, log, _joined(self._stored(name)))

    def remove_partials(self, prefix: str) -> None:
        """Removes the segments that their object already contains."""
        blobs = self._bucket.entries(prefix)
        contained = {blob.name: _contained(blob) for blob in blobs}
        segments = [(blob, parts) for blob in blobs if (parts := split(blob.name))]
        self._bucket.delete(
            {blob.name: blob.generation for blob, (name, number) in segments if number <= contained.get(name, 0)}
        )

    def forget(self, prefix: str) -> None:
        """After a removal of an object or a folder."""
        with self._upload, self._lock:
            for name in [name for name in self._logs if name == prefix or name.startswith(f"{prefix}/")]:
                del self._logs[name]

    def _stored(self, name: str, max_bytes: float = math.inf) -> list[bytes]:
        return self._bucket.gather(name, lambda blobs: _parts(name, blobs), max_bytes)

    def _flush(self, name: str) -> None:
        log = self._logs[name]
        while True:
            with self._lock:
                if not log.pending:
                    log.pending, log.spooled = log.spooled, ""
            if not log.pending:
                return
            self._know(name, log)
            segment = _segment(name, log.last + 1)
            generation = self._bucket.upload(segment, log.pending.encode(), match=0)
            if not generation:
                raise self._taken(segment)
            with self._lock:
                log.last, log.pending = log.last + 1, ""
                log.live[segment] = generation

    def _know(self, name: str, log: _Log) -> None:
        """Reads from the bucket, once, where a log goes on."""
        if log.known:
            return
        blobs = [
            blob for blob in self._bucket.entries(name) if blob.name == name or (split(blob.name) or ("",))[0] == name
        ]
        for blob in blobs:
            if parts := split(blob.name):
                log.last = max(log.last, parts[1])
                log.live[blob.name] = int(blob.generation)
            else:
                log.last = max(log.last, _contained(blob))
                log.generation = int(blob.generation)
        log.known = True

    def _replace(self, name: str, log: _Log, data: bytes) -> None:
        generation = self._bucket.upload(name, data, match=log.generation, metadata={_CONTAINED: str(log.last)})
        if not generation:
            raise self._taken(name)
        log.generation = generation
        self._bucket.delete(log.live)
        log.live = {}

    def _taken(self, name: str) -> exits.CannotRun:
        return exits.CannotRun(
            f"another process has written {self._bucket.url(name)}; only one may train in a run directory, stop one."
        )


def split(name: str) -> tuple[str, int] | None:
    """The log and the number of a segment; None for any other object."""
    match = _SEGMENT.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def _segment(name: str, number: int) -> str:
    return f"{name}{FOLDER}{number:06d}"


def _contained(blob: Any) -> int:
    """Up to which number an object contains the segments of its log."""
    number = str((blob.metadata or {}).get(_CONTAINED, 0))
    if not re.fullmatch("[0-9]{1,18}", number):
        raise exits.BadData(
            f"gs://{blob.bucket.name}/{blob.name} has {printable(repr(number[:40]))} as its {_CONTAINED}, which is no number of"
            " a segment; do not use this run directory."
        )
    return int(number)


def _parts(name: str, blobs: list[Any]) -> list[Any]:
    """What a log consists of, in order: its object and the segments that this does not contain."""
    whole = [blob for blob in blobs if blob.name == name]
    contained = _contained(whole[0]) if whole else 0
    segments = [(parts[1], blob) for blob in blobs if (parts := split(blob.name)) and parts[0] == name]
    return whole + [blob for number, blob in sorted(segments, key=lambda pair: pair[0]) if number > contained]


def _joined(parts: list[bytes]) -> bytes:
    """One after another; a last line that was cut short stays one of its own."""
    parts = [part for part in parts if part]
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts[:-1]) + b"".join(parts[-1:])
