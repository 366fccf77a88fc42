"""The index of packed records: where each record lies and what it holds. A stranger may have written it."""

from __future__ import annotations

import io
from pathlib import Path

import google_crc32c
import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data.images.probe import MAX_PIXELS, Kind
from convoy.data.records.manifest import CorruptRecords, Entry, Manifest, shard_names
from convoy.outside import printable, read_file

PIXELS = 0  # uint8 as they are, instead of a file of some convoy.data.images.probe.Kind
KINDS = (PIXELS, Kind.JPEG, Kind.PNG)
BEFORE, AFTER = 12, 4  # bytes of a record around its data
RECORD = np.dtype(
    [
        ("shard", "<i4"),
        ("offset", "<i8"),  # of the data within the shard
        ("length", "<i8"),
        ("crc32c", "<u4"),  # of the data
        ("image", "<i8"),  # where the image begins within the data
        ("image_length", "<i8"),
        ("label", "<i4"),
        ("content_hash", "<f8"),  # of the original: convoy.data.sources.examples.content_hash
        ("kind", "u1"),  # convoy.data.images.probe.Kind, or PIXELS
        ("height", "<i4"),
        ("width", "<i4"),
    ]
)
GROUP = np.dtype("<f8")  # of a record: convoy.data.groups.numbered
_MAX_RECORD_BYTES = 2**40
_MAX_INDEX_BYTES = RECORD.itemsize * 2**31


def index_bytes(records: np.ndarray) -> bytes:
    """The file of an index, of RECORDs, or of GROUPs."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, records, allow_pickle=False)
    return buffer.getvalue()


def read_index(path: Path, entry: Entry | None = None) -> np.ndarray:
    """The RECORDs of an index; CorruptRecords if one is impossible, or the file is not as its entry says."""
    records = _read(path, RECORD, entry)
    if fault := _impossible(records):
        raise CorruptRecords(f"{path} is no index of records: {fault}")
    return records


def read_groups(path: Path, examples: int, entry: Entry) -> np.ndarray:
    """The GROUP of each example of a split; CorruptRecords if one is none, or the file is not as its entry says."""
    groups = _read(path, GROUP, entry)
    if len(groups) != examples or not ((groups >= 0) & (groups < 1)).all():
        raise CorruptRecords(f"{path} does not hold the groups of {counted(examples, 'example')}")
    return groups


def _read(path: Path, dtype: np.dtype, entry: Entry | None) -> np.ndarray:
    try:
        content = read_file(path, entry.bytes if entry else _MAX_INDEX_BYTES)
    except OSError as error:
        raise CorruptRecords(f"{path} cannot be read ({exits.reason(error)})") from error
    except exits.BadData as error:
        raise CorruptRecords(str(error).rstrip(".")) from error
    if entry and (len(content), f"{google_crc32c.value(content):08x}") != (entry.bytes, entry.crc32c):
        raise CorruptRecords(f"{path} is not as it was packed")
    return _parsed(content, path, dtype)


def check_index(records: np.ndarray, split: str, manifest: Manifest) -> None:
    """CorruptRecords unless an index is that of a split of a manifest."""
    planned = manifest.splits[split]
    kinds = [PIXELS] if manifest.shape else KINDS[1:]
    fault = ""
    if len(records) != planned.examples or records["shard"][0] != 0 or records["shard"][-1] != planned.shards - 1:
        shards = counted(int(records["shard"][-1]) + 1, "shard")
        fault = f"it has {counted(len(records), 'record')} in {shards}, and its manifest other numbers"
    elif not (records["label"].min() >= 0 and records["label"].max() < len(manifest.classes)):
        fault = f"it has labels beyond its {len(manifest.classes)} classes"
    elif not np.isin(records["kind"], kinds).all():
        fault = "it has images of another kind than its manifest"
    elif _shard_bytes(records) != [manifest.files[name].bytes for name in shard_names(split, planned)]:
        fault = "its shards take other sizes"
    elif manifest.shape:
        height, width, channels = manifest.shape
        sizes = records[["height", "width", "image_length"]]
        if (sizes != np.array((height, width, height * width * channels), sizes.dtype)).any():
            fault = "it has images of another shape than its manifest"
    if fault:
        raise CorruptRecords(f"the index of the split {printable(split)} is not that of its manifest: {fault}")


def _shard_bytes(records: np.ndarray) -> list[int]:
    """The size of every shard."""
    return np.bincount(records["shard"], records["length"] + BEFORE + AFTER).astype(np.int64).tolist()


def _parsed(content: bytes, path: Path, expected: np.dtype) -> np.ndarray:
    """By its header, without NumPy's readers, which make room for whatever a header announces."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # its parser is Python's own: of what is no header it raises anything
        raise CorruptRecords(f"{path} does not read as an index") from error
    rest = len(content) - file.tell()
    if dtype != expected or fortran or len(shape) != 1 or not shape[0] or shape[0] * expected.itemsize != rest:
        raise CorruptRecords(f"{path} is no index of records")
    return np.frombuffer(content, expected, offset=file.tell())


def _impossible(records: np.ndarray) -> str:
    """Why records cannot be those of one shard, or of several in order; "" if they can."""
    shard, offset, length = records["shard"], records["offset"], records["length"]
    if shard[0] < 0 or not np.isin(np.diff(shard), (0, 1)).all():
        return "its shards are not in order"
    if not ((length >= 0) & (length <= _MAX_RECORD_BYTES)).all():
        return "a record has a length that none can have"
    first = np.diff(shard, prepend=-1) != 0
    after = np.concatenate([[0], (offset + length)[:-1]]) + AFTER + BEFORE
    if (offset != np.where(first, BEFORE, after)).any():
        return "its records do not stand one after another"
    image, image_length = records["image"], records["image_length"]
    if not ((image >= 0) & (image <= length) & (image_length >= 0) & (image_length <= length - image)).all():
        return "an image lies outside its record"
    pixels = records["height"].astype(np.int64) * records["width"]
    if not ((records["height"] > 0) & (records["width"] > 0) & (pixels <= MAX_PIXELS)).all():
        return f"an image has no pixels, or more than {MAX_PIXELS:,}"
    hashes = records["content_hash"]
    if not ((hashes >= 0) & (hashes < 1)).all():  # NaN is neither
        return "a content hash is none"
    if not np.isin(records["kind"], KINDS).all():
        return "an image is of an unknown kind"
    return ""
