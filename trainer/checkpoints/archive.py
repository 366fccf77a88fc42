"""The tensors in an .npz file that anybody may have written.

zipfile and NumPy would inflate, allocate, evaluate and unpickle what a file asks for. Here a file is what Snapshot writes, or
refused: stored members alone, one behind the other from the first byte to the directory, each as large as its header says.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convoy.trainer.checkpoints.snapshot import DTYPES, NotFinite, check

_LOCAL, _SIGNATURE = struct.Struct("<4s22xHH"), b"PK\x03\x04"  # of a member; how long its name and what follows are
_NPY = struct.Struct("<8sH")
_NPY_1_0 = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '(...)', 'fortran_order': False, 'shape': (\([0-9, ]{0,700}\)), \} *\n")
_UTF_8 = 0x800  # the one flag that a member may have
_BY_DESCRIPTION = {dtype.str.encode(): dtype for dtype in DTYPES}


class Member(NamedTuple):
    """A tensor in a file. Its shape and type are known; `value` is a view, and no number of it has been read."""

    value: np.ndarray
    content: memoryview  # header and numbers
    crc32: int

    def check(self, name: str) -> None:
        """ValueError if the numbers are not those that were written, or none that may be saved."""
        self.check_crc32(name)
        if self.value.dtype == np.bool_ and self.value.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"has truth values in {name} that are neither 0 nor 1")
        try:
            check([(name, self.value)])
        except NotFinite as error:
            raise ValueError(f"has numbers in {name} that are not finite") from error

    def check_crc32(self, name: str) -> None:
        """ValueError if the content is another one than was written."""
        if zlib.crc32(self.content) != self.crc32:
            raise ValueError(f"has another crc32 of {name} than it says")


def members(data: bytes, paths: Sequence[str]) -> list[Member]:
    """The tensors of a file, which must hold these and no others, in this order; ValueError says what is wrong."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos, directory = archive.infolist(), archive.start_dir
            for info in infos:
                archive.open(info).close()  # its own header agrees with the directory
    except Exception as error:  # of a dozen kinds
        raise ValueError("is no sound zip file") from error
    if [info.filename for info in infos] != [f"{path}.npy" for path in paths]:
        raise ValueError("does not hold the tensors that its manifest names")
    tensors: list[Member] = []
    at = 0
    for path, info in zip(paths, infos, strict=True):
        start, stop = _extent(data, info, at, directory)
        tensors.append(Member(_value(data, start, stop, path), memoryview(data)[start:stop], info.CRC))
        at = stop
    if at != directory:
        raise ValueError("has something between its members and its directory")
    return tensors


def _extent(data: bytes, info: zipfile.ZipInfo, at: int, end: int) -> tuple[int, int]:
    """Where a member has its content that has to begin at `at` and be over by `end`; ValueError for any other one."""
    stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    if stored and not info.flag_bits & ~_UTF_8 and info.header_offset == at and at + _LOCAL.size <= end:
        signature, name, extra = _LOCAL.unpack_from(data, at)
        start = at + _LOCAL.size + name + extra
        if signature == _SIGNATURE and start + info.file_size <= end:
            return start, start + info.file_size
    raise ValueError("has a member that is not stored as it is, whole and behind the one before")


def _value(data: bytes, start: int, stop: int, path: str) -> np.ndarray:
    odd = ValueError(f"has a member {path} that is no tensor of a type that is saved, or not of its size")
    if stop - start < _NPY.size:
        raise odd
    magic, length = _NPY.unpack_from(data, start)
    numbers = start + _NPY.size + length
    # NumPy would evaluate this as a Python expression; one text alone is what it writes for a shape and a type.
    header = _HEADER.fullmatch(data, start + _NPY.size, numbers)
    dtype = _BY_DESCRIPTION.get(header[1]) if header else None
    if magic != _NPY_1_0 or not header or not dtype:
        raise odd
    shape = tuple(int(size) for size in re.findall(rb"[0-9]+", header[2]))
    if repr(shape).encode() != header[2] or math.prod(shape) * dtype.itemsize != stop - numbers:
        raise odd
    try:
        return np.frombuffer(data, dtype, math.prod(shape), numbers).reshape(shape)
    except (ValueError, OverflowError) as error:  # more dimensions than there are, or an empty one beside a huge one
        raise odd from error
