"""Packed records that stay in a bucket: what is needed of them comes while a run goes on, and is kept on a bounded disk."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
import numpy as np

from convoy import exits
from convoy.data.records.ahead import SHARE, Ahead
from convoy.data.records.format import names
from convoy.data.records.kept import Kept, Segments
from convoy.data.records.manifest import CorruptRecords
from convoy.data.records.pieces import Objects
from convoy.data.schedule import Schedule
from convoy.outside import Name
from convoy.store import Store

_SUSPECTS = 1024  # records that may be why reading failed: those of the batches on their way


class Source:
    """The records of a data set in a bucket, and the disk for them: shared by all of its splits.

    Args:
      store: of the records.
      folder: on that disk.
      budget: bytes of records there at the same time.
    """

    def __init__(self, store: Store, folder: Path, budget: int):
        self.store, self.folder = store, folder
        self.budget, self.kept = budget, Kept(folder, int(budget * (1 - SHARE)))
        self.numbers = itertools.count()
        self.error: Exception | None = None  # which ended all reading
        self._ahead: Ahead | None = None

    def begin(self, ahead: Ahead) -> None:
        """Reads for one training stream at a time: TensorFlow keeps the functions of a stream as long as the process lives."""
        if self._ahead:
            self._ahead.stop()
        self._ahead = ahead
        ahead.start()

    def fail(self, error: Exception) -> None:
        self.error = error


class StreamedShards:
    """The shards of a split in a bucket. See convoy.data.records.format.Shards, in whose place they are.

    Args:
      source: of the data set.
      objects: those of the split.
      rows: of the index, int64 [n]: those that anybody will read.
    """

    def __init__(self, source: Source, objects: Objects, rows: np.ndarray | None = None):
        self.index, self._source, self._objects = objects.index, source, objects
        self._rows = np.arange(len(self.index)) if rows is None else np.unique(rows)
        self._segments: Segments | None = None
        self._ahead: Ahead | None = None
        self._begun = False
        self._read = deque[int](maxlen=_SUSPECTS)  # rows, the last

    @classmethod
    def of_split(cls, source: Source, shards: list[Name], index: np.ndarray) -> StreamedShards:
        return cls(source, Objects(source.store, shards, index))

    def select(self, rows: np.ndarray) -> StreamedShards:
        """For a reader of these rows alone."""
        return StreamedShards(self._source, self._objects, rows)

    def along(self, schedule: Schedule, rows: np.ndarray) -> StreamedShards:
        """For a training stream: what it reads by a schedule, of examples at these rows, is here when it reads it."""
        source, shards = self._source, copy.copy(self)
        shards._ahead = Ahead(schedule, rows, self._objects, source.folder, source.budget, source.fail)
        return shards

    def wait(self, rows: np.ndarray, positions: np.ndarray | None) -> None:
        """Before these rows are read: at positions of the schedule, or without any."""
        if positions is None or self._ahead is None:
            self._others(rows.tolist())
            return
        if not self._begun:
            self._begun = True
            self._source.begin(self._ahead)
        self._ahead.wait(positions)

    def images(self, rows: np.ndarray) -> list[bytes]:
        """The images at rows of the index; CorruptRecords unless each is as it was packed. Threads may call this at once."""
        wanted = rows.tolist()
        contents = {row: data for row in wanted if self._ahead and (data := self._ahead.read(row)) is not None}
        if missing := [row for row in wanted if row not in contents]:
            contents |= self._others(missing)
        images = []
        for row, record in zip(wanted, self.index[rows].tolist(), strict=True):
            _, _, _, crc, image, length, *_ = record
            self._read.append(row)
            if google_crc32c.value(contents[row]) != crc:
                raise CorruptRecords(f"{self.names(np.array([row]))[0]} cannot be read: its checksum is wrong")
            images.append(contents[row][image : image + length])
        return images

    def names(self, rows: np.ndarray) -> list[str]:
        """How sentences call the records at these rows."""
        return names(self.index, [f"{self._source.store.url}/{name}" for name in self._objects.names], rows)

    def suspects(self, rows: np.ndarray) -> np.ndarray:
        """The places in `rows` of those that were read last; raises what has ended all reading."""
        if self._source.error:
            raise self._source.error
        return np.flatnonzero(np.isin(rows, list(self._read)))

    def _others(self, rows: Iterable[int]) -> dict[int, bytes]:
        if self._segments is None:
            self._segments = Segments(self._source.kept, next(self._source.numbers), self._objects, self._rows)
        try:
            return self._segments.read(rows)
        except exits.ConvoyError as error:
            self._source.fail(error)
            raise
