"""Records read from a bucket in few requests, and kept in a file without a name, which the system removes with the process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from convoy import exits
from convoy.outside import Name
from convoy.store import Store

MAX_REQUEST = 4 << 20  # bytes; a record of more is a request of its own
MAX_GAP = 256 << 10  # bytes between two records that a request reads too, where nobody needs them
_TRIES = 3  # of bytes that are not the record's: what the network spoils is right the next time


class Objects:
    """The shards of a split in a bucket.

    Args:
      store: of the records.
      names: of the shards.
      index: the RECORDs of all of them, in order.
    """

    def __init__(self, store: Store, names: list[Name], index: np.ndarray):
        self.store, self.names, self.index = store, names, index

    def contents(self, rows: np.ndarray, among: np.ndarray) -> Iterator[tuple[int, bytes]]:
        """(row, the data of its record); checked no further than by a few tries.

        Args:
          rows: of the index, int64 [n] that grow.
          among: all rows that anybody needs, int64 that grow: those between two of `rows` are not read with them.

        Raises:
          exits.BadData: a shard is missing or too short.
          exits.CannotRun, exits.TryAgain: as of any store.
        """
        records = self.index[rows]
        for first, last in requests(records, np.diff(np.searchsorted(among, rows)) == 1):
            part = records[first:last]
            begin = int(part["offset"][0])
            size = int(part["offset"][-1] + part["length"][-1]) - begin
            yield from zip(rows[first:last].tolist(), self._records(part, begin, size), strict=True)

    def _records(self, records: np.ndarray, begin: int, size: int) -> list[bytes]:
        name = self.names[int(records["shard"][0])]
        places = [(offset - begin, length) for offset, length in records[["offset", "length"]].tolist()]
        checksums = records["crc32c"].tolist()
        for _ in range(_TRIES):
            try:
                data = self.store.get_range(name, begin, size) if size else b""
            except FileNotFoundError:
                raise exits.BadData(f"{self.store.url} has no {name}, which its manifest names; pack anew.") from None
            contents = [data[place : place + length] for place, length in places]
            if all(google_crc32c.value(content) == crc for content, crc in zip(contents, checksums, strict=True)):
                break
        return contents


def requests(records: np.ndarray, next_to: np.ndarray) -> list[tuple[int, int]]:
    """(first, one past the last) of RECORDs in order, such that a request for each range reads little else.

    Args:
      records: RECORD [n].
      next_to: bool [n - 1], whether nobody needs what lies between a record and the next one.
    """
    ends = records["offset"] + records["length"]
    apart = ~next_to | (np.diff(records["shard"]) != 0) | (records["offset"][1:] - ends[:-1] > MAX_GAP)
    borders = {0, len(records), *(np.flatnonzero(apart) + 1).tolist()}
    ranges = []
    for first, last in zip(sorted(borders)[:-1], sorted(borders)[1:], strict=True):
        begin = first
        for row in range(first + 1, last + 1):
            if row == last or ends[row] - records["offset"][begin] > MAX_REQUEST:
                ranges.append((begin, row))
                begin = row
    return ranges


class Piece:
    """Records on this machine's disk.

    Args:
      folder: on that disk.
      contents: (row, data) of each.

    Raises:
      exits.CannotRun: there is no room.
    """

    def __init__(self, folder: Path, contents: Iterator[tuple[int, bytes]]):
        self._places: dict[int, tuple[int, int]] = {}
        self.bytes = 0
        try:
            self._file, path = tempfile.mkstemp(prefix="ahead-", dir=folder)
            weakref.finalize(self, os.close, self._file)
            os.unlink(path)  # noqa: PTH108 - the file stays as long as it is open, and no longer
        except OSError as error:
            raise _refusal(folder, error) from error
        for row, data in contents:
            self._places[row] = self.bytes, len(data)
            self._write(folder, data)

    def read(self, row: int) -> bytes:
        """The data of a record; shorter than it should be where the disk has lost some."""
        offset, length = self._places[row]
        return os.pread(self._file, length, offset)

    def _write(self, folder: Path, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file, view, self.bytes)
                view, self.bytes = view[written:], self.bytes + written
        except OSError as error:
            raise _refusal(folder, error) from error


def _refusal(folder: Path, error: OSError) -> exits.CannotRun:
    return exits.CannotRun(
        f"cannot keep what is read ahead in {folder}: {exits.reason(error)}; make room there, lower --cache_gb or name another"
        " place with --data_dir, and the same command continues from the last checkpoint."
    )
