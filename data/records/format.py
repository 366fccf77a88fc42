"""A data set packed into few large files: TFRecord shards, an index of every record, and a manifest that makes it complete.

    DIR/train-00000-of-00002.tfrecord   tf.train.Examples with the keys of ImageNet's
        train.index.npy                 a RECORD for each, in the order of the source: where it lies and what it holds
        train.groups.npy                the GROUP of each, where there are groups
        MANIFEST.json                   what was packed; names, sizes and crc32c of the others; written last

A record of a TFRecord file (tensorflow/core/lib/io/record_writer.h) is a little-endian uint64 length, a uint32 masked crc32c
of that, the data, and a uint32 masked crc32c of the data. Why this and no other container: docs/records.md.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data.images.probe import Kind
from convoy.data.records.index import AFTER, BEFORE, PIXELS, RECORD, index_bytes
from convoy.data.records.manifest import CorruptRecords, Entry, parse_document, write_document
from convoy.outside import open_file, read_file

_FORMATS = {PIXELS: b"raw", Kind.JPEG: b"JPEG", Kind.PNG: b"PNG"}
_MAX_FILES = 1 << 16  # open at the same time


class Packed(NamedTuple):
    """An image before it becomes a record."""

    content: bytes
    kind: int
    shape: tuple[int, int, int]  # height, width and channels once it is decoded
    label: int
    content_hash: float


def write_shard(path: Path, shard: int, images: Iterable[Packed]) -> np.ndarray:
    """Writes images as a shard and returns their RECORDs."""
    records, offset = [], 0
    with written(path) as file:
        for image in images:
            data = _example(image)
            crc = google_crc32c.value(data)
            file.write(_framed(data, crc))
            where = (shard, offset + BEFORE, len(data), crc, _place(image.content, data), len(image.content))
            records.append((*where, image.label, image.content_hash, image.kind, *image.shape[:2]))
            offset += BEFORE + len(data) + AFTER
    return np.array(records, RECORD)


def verify_shard(path: Path, records: np.ndarray) -> Entry:
    """Reads a shard from end to end; CorruptRecords if it holds anything but the records."""
    crc = size = 0
    with open_file(path) as file:
        for number, (length, expected) in enumerate(records[["length", "crc32c"]].tolist()):
            frame = file.read(BEFORE + length + AFTER)
            data = frame[BEFORE:-AFTER]
            if google_crc32c.value(data) != expected or frame != _framed(data, expected):
                raise CorruptRecords(f"record {number} of {path} is not as it was packed")
            crc, size = google_crc32c.extend(crc, frame), size + len(frame)
        if file.read(1):
            raise CorruptRecords(f"{path} goes on after its last record")
    return Entry(size, f"{crc:08x}")


def write_index(path: Path, records: np.ndarray) -> Entry:
    """Writes RECORDs, or GROUPs."""
    content = index_bytes(records)
    with written(path) as file:
        file.write(content)
    return Entry(len(content), f"{google_crc32c.value(content):08x}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON object that carries the crc32c of its own text."""
    with written(path) as file:
        file.write(write_document(content))


def read_json(path: Path) -> dict[str, Any]:
    """An object of write_json; FileNotFoundError if there is none, CorruptRecords if it is not as it was written."""
    return parse_document(read_file(path), str(path))


class Shards:
    """The shards of a split, open.

    Args:
      paths: of the shards.
      index: the RECORDs of all of them, in order.

    Raises:
      CorruptRecords: one is missing, or of another size than its RECORDs take.
    """

    def __init__(self, paths: list[Path], index: np.ndarray):
        self.paths, self.index = paths, index
        allow_files()
        self._files: list[int] = []
        weakref.finalize(self, _close, self._files)
        for shard, path in enumerate(paths):
            try:
                self._files.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError as error:
                raise CorruptRecords(f"{path} cannot be opened ({exits.reason(error)})") from error
            whole = int((index["length"][index["shard"] == shard] + BEFORE + AFTER).sum())
            status = os.fstat(self._files[-1])
            if not stat.S_ISREG(status.st_mode):
                raise CorruptRecords(f"{path} is no regular file")
            if (size := status.st_size) != whole:
                raise CorruptRecords(f"{path} has {size} bytes of {whole}")

    def images(self, rows: np.ndarray) -> list[bytes]:
        """The images at rows of the index; CorruptRecords unless each is as it was packed. Threads may call this at once."""
        images = []
        # Python's numbers: to take single ones out of arrays would cost more than to read.
        for row, record in zip(rows.tolist(), self.index[rows].tolist(), strict=True):
            shard, offset, length, crc, image, image_length, *_ = record
            try:
                # Not through a memory map: a failing disk would kill the process, a slow one stop all threads of Python.
                data = os.pread(self._files[shard], length, offset)
            except OSError as error:
                raise self._corrupt(row, exits.reason(error)) from error
            if google_crc32c.value(data) != crc:
                raise self._corrupt(row, "its checksum is wrong")
            images.append(data[image : image + image_length])
        return images

    def names(self, rows: np.ndarray) -> list[str]:
        """How sentences call the records at these rows."""
        return names(self.index, self.paths, rows)

    def select(self, rows: np.ndarray) -> Shards:
        """For a reader of these rows alone."""
        return self

    def suspects(self, rows: np.ndarray) -> np.ndarray:
        """The places in `rows` of those that may be corrupt: all."""
        return np.arange(len(rows))

    def _corrupt(self, row: int, reason: str) -> CorruptRecords:
        return CorruptRecords(f"{self.names(np.array([row]))[0]} cannot be read: {reason}")


def names(index: np.ndarray, shards: Sequence[object], rows: np.ndarray) -> list[str]:
    """How sentences call the records at rows of an index, by what they call each shard."""
    numbers = rows - np.searchsorted(index["shard"], index["shard"][rows])
    pairs = zip(numbers.tolist(), index["shard"][rows].tolist(), strict=True)
    return [f"record {number} of {shards[shard]}" for number, shard in pairs]


def partial_of(path: Path) -> Path:
    """The name of a file until it is complete."""
    return path.with_name(f"{path.name}.partial")


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which has its name once it is whole and on the disk; CannotRun where the place refuses."""
    partial = partial_of(path)
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:  # a new file: never through a link, never into a pipe
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        reason = exits.reason(error)
        raise exits.CannotRun(
            f"cannot write {path}: {reason}; make room there and give the same command again, which goes on after the last"
            " whole shard, or choose another --out."
        ) from error


def _example(image: Packed) -> bytes:
    """A tf.train.Example; the same bytes every time."""
    texts = {"image/encoded": image.content, "image/format": _FORMATS[image.kind]}
    numbers = {"image/class/label": image.label}
    numbers |= dict(zip(("image/height", "image/width", "image/channels"), image.shape, strict=True))
    feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])) for key, text in texts.items()}
    for key, number in numbers.items():
        feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def _place(content: bytes, data: bytes) -> int:
    begin = data.index(content[:64])
    # Looking for the whole of it takes longer than all the rest.
    return begin if data.startswith(content, begin) else data.index(content)


def _framed(data: bytes, crc: int) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked(google_crc32c.value(length)), data, _masked(crc)))


def _masked(crc: int) -> bytes:
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def allow_files() -> int:
    """Raises the limit of open files, and returns it: many systems allow 1,024, and more to a process that asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(soft, limit)


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
