"""Records of a bucket that no plan names, as those of an evaluation: read a segment of neighbours at a time, and kept as long
as there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from convoy.data.records.format import allow_files
from convoy.data.records.pieces import Objects, Piece

_SEGMENT_BYTES = 1 << 20
_READERS = 8

Key = tuple[int, int]


class Kept:
    """Segments of all splits of a data set, those that were used last.

    Args:
      folder: where they are kept.
      budget: bytes of all of them; the one in use may be more.
    """

    def __init__(self, folder: Path, budget: int):
        self._folder, self._budget, self._max_segments = folder, budget, allow_files() // 4  # each is an open file
        self._pool = ThreadPoolExecutor(_READERS, "kept")
        self._lock = threading.Lock()
        self._segments = OrderedDict[Key, Future[Piece]]()
        self._bytes = 0

    def get(self, key: Key, objects: Objects, rows: np.ndarray, among: np.ndarray) -> Future[Piece]:
        """A segment, here or on its way: these rows, as Objects.contents has it."""
        with self._lock:
            if (coming := self._segments.get(key)) and not (coming.done() and coming.exception()):
                self._segments.move_to_end(key)
                return coming
            coming = self._segments[key] = self._pool.submit(self._bring, key, objects, rows, among)
            return coming

    def _bring(self, key: Key, objects: Objects, rows: np.ndarray, among: np.ndarray) -> Piece:
        piece = Piece(self._folder, objects.contents(rows, among))
        with self._lock:
            self._bytes += piece.bytes
            for other, coming in list(self._segments.items()):
                if self._bytes <= self._budget and len(self._segments) <= self._max_segments:
                    break
                if other != key and coming.done() and not coming.exception():
                    self._bytes -= coming.result().bytes
                    del self._segments[other]
        return piece


class Segments:
    """The records of some examples, by segments.

    Args:
      kept: of the data set.
      number: of these examples among all in `kept`.
      objects: of their split.
      rows: of the index, int64 [n], that grow.
    """

    def __init__(self, kept: Kept, number: int, objects: Objects, rows: np.ndarray):
        self._kept, self._number, self._objects, self._rows = kept, number, objects, rows
        bytes_before = np.cumsum(objects.index["length"][rows]) // _SEGMENT_BYTES
        self._starts = np.flatnonzero(np.diff(bytes_before, prepend=-1))

    def read(self, rows: Iterable[int]) -> dict[int, bytes]:
        """The data of records, by row; those that come from far away at the same time."""
        rows = np.unique(np.fromiter(rows, np.int64))
        segments = np.searchsorted(self._starts, np.searchsorted(self._rows, rows), side="right") - 1
        coming = {segment: self._segment(segment) for segment in np.unique(segments).tolist()}
        return {
            row: coming[segment].result().read(row)
            for row, segment in zip(rows.tolist(), segments.tolist(), strict=True)
        }

    def _segment(self, segment: int) -> Future[Piece]:
        end = self._starts[segment + 1] if segment + 1 < len(self._starts) else len(self._rows)
        return self._kept.get(
            (self._number, segment), self._objects, self._rows[self._starts[segment] : end], self._rows
        )
