"""What Weights & Biases keeps of a run on this disk while it is offline, read for the steps in it.

Such a file is a log in LevelDB's form (github.com/google/leveldb, doc/log_format.md) behind a header of 7 bytes, of the
library's own protocol buffers. A killed process leaves it cut.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from convoy.outside import read_file

_HEADER, _BLOCK = 7, 1 << 15
_PIECE = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _LAST = 1, 2, 4
_MAX_BYTES = 1 << 30


def next_step(file: Path, run_id: str) -> int:
    """One more than the last step in the files of a run, all of which lie in folders beside that of `file`; 0 for none."""
    files = file.parent.parent.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    return max((step + 1 for path in files for step in _steps(read_file(path, _MAX_BYTES))), default=0)


def _steps(data: bytes) -> Iterator[int]:
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for text in records(data):
        record = Record()
        try:
            record.ParseFromString(text)
        except DecodeError:
            return
        if record.HasField("history"):
            values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            yield json.loads(values["_step"]) if "_step" in values else record.history.step.num


def records(data: bytes) -> Iterator[bytes]:
    """The records of such a file, up to where it is cut."""
    place, parts = _HEADER, b""
    while place + _PIECE.size <= len(data):
        if _BLOCK - place % _BLOCK < _PIECE.size:  # no piece begins so near the end of a block
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = _PIECE.unpack_from(data, place)
        piece = data[place + _PIECE.size : place + _PIECE.size + length]
        if not kind or len(piece) < length:
            return
        place += _PIECE.size + length
        parts = piece if kind in (_FULL, _FIRST) else parts + piece
        if kind in (_FULL, _LAST):
            yield parts
