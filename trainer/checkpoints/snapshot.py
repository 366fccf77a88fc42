"""The tensors of a run as the .npz files of a checkpoint, made in memory that is kept from one save to the next.

Training stands still meanwhile, so this is as little as can be: every tensor is copied once, into its place in a file that
is ready to be sent. There is never a second copy of the state.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from convoy.store import Data
from convoy.trainer.checkpoints.documents import file_names

FILE_BYTES = 32 << 20  # about; files travel side by side
_MEMBER_BYTES = 512  # around a tensor, at most, besides its name, which stands there twice

# What a variable may be of: NumPy reads these again as they were, without pickle.
DTYPES = tuple(
    np.dtype(name)
    for name in (
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    )
)

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class NotFinite(Exception):
    """A tensor with numbers that are not finite; the text names it."""


def check(tensors: Iterable[tuple[str, np.ndarray]]) -> None:
    """NotFinite names the first tensor that holds NaN or an infinity."""
    for name, value in tensors:
        _check(name, value)


class Snapshot:
    """Files for tensors of some shapes.

    Args:
      shapes: name -> shape and dtype, in the order in which `write` gets them. Names are KIND/PATH; a kind becomes
        one file, KIND.npz, or several of about `file_bytes`, KIND-00001-of-00003.npz.
    """

    def __init__(self, shapes: Shapes, file_bytes: int = FILE_BYTES):
        self.tensors = _layout(shapes, file_bytes)
        self._memory: dict[str, _Memory] = {}
        for file, names in self.tensors.items():
            size = sum(_bytes_of(shapes[name]) + 2 * len(name.encode()) + _MEMBER_BYTES for name in names)
            self._memory[file] = _Memory(size + _MEMBER_BYTES)

    def write(self, tensors: Iterable[tuple[str, np.ndarray]]) -> dict[str, Data]:
        """File name -> content, which the next call overwrites. NotFinite if a tensor may not be saved."""
        values = iter(tensors)
        for file, names in self.tensors.items():
            memory = self._memory[file]
            memory.seek(0)
            with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
                for expected in names:
                    name, value = next(values)
                    if name != expected:
                        raise ValueError(f"the state has {name} where {expected} was announced")
                    _check(name, value)
                    add_tensor(archive, name.partition("/")[2], value)
            memory.cut()
        return {file: memory.content for file, memory in self._memory.items()}


class _Memory(io.RawIOBase):
    """A file of bounded size in memory that, unlike io.BytesIO, never moves nor gives its bytes back."""

    def __init__(self, size: int):
        pages = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # The first save meets every page for the first time: 4 KiB at once would take several times as long as the copy.
            with contextlib.suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        self._all = memoryview(pages)
        self._at = self._end = 0

    @property
    def content(self) -> memoryview:
        return self._all[: self._end]

    def cut(self) -> None:
        self._end = self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET, "zipfile asks for nothing else"
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._all[self._at : self._at + len(view)] = view
        self._at += len(view)
        return len(view)


def _layout(shapes: Shapes, file_bytes: int) -> dict[str, list[str]]:
    """File name -> the tensors in it."""
    parts: dict[str, list[list[str]]] = {}
    last, size = "", 0
    for name, spec in shapes.items():
        kind = name.partition("/")[0]
        if kind != last:
            assert kind not in parts, "tensors of a kind stand together"
            parts[kind], size = [[]], 0
        elif size and size + _bytes_of(spec) > file_bytes:
            parts[kind].append([])
            size = 0
        parts[kind][-1].append(name)
        size += _bytes_of(spec)
        last = kind
    return {
        file: names
        for kind, files in parts.items()
        for file, names in zip(file_names(kind, len(files)), files, strict=True)
    }


def _bytes_of(spec: tuple[tuple[int, ...], np.dtype[Any]]) -> int:
    return int(np.prod(spec[0], dtype=np.int64)) * np.dtype(spec[1]).itemsize


def add_tensor(archive: zipfile.ZipFile, path: str, value: np.ndarray) -> None:
    """Adds a contiguous array as `path`.npy."""
    header = {"descr": np.lib.format.dtype_to_descr(value.dtype), "fortran_order": False, "shape": value.shape}
    # A date that is always the same: equal states are equal files.
    with archive.open(zipfile.ZipInfo(f"{path}.npy"), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(value.reshape(-1).view(np.uint8).data)


def _check(name: str, value: np.ndarray) -> None:
    if value.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        # A sum is finite only if everything in it is; the other way around it may overflow.
        if not np.isfinite(value.sum()) and not np.isfinite(value).all():
            raise NotFinite(name)
