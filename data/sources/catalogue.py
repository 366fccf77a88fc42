"""The headers of a folder's images, and hashes of their contents: read once, and kept in the user's cache.

Imports no TensorFlow.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import stat
import sys
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convoy import terminal
from convoy.data.identity import prefix
from convoy.data.images.probe import Header, Kind, Look, look
from convoy.data.records.caches import caches

# One image, as the cache holds it beside its name: size and time of change say whether the rest still holds.
ENTRY = np.dtype(
    [("size", "<i8"), ("changed", "<i8"), ("kind", "u1"), ("orientation", "u1"), ("height", "<i4"), ("width", "<i4")]
)
_SCHEMA = 3
_THREADS = 4  # for storage that is far away
_CHUNK = 64  # files of one call of a thread: a call takes as long as reading a header
_MANY = 2000  # files that take long enough for a progress bar


class Catalogue(NamedTuple):
    """The headers of N image files."""

    entries: np.ndarray  # ENTRY [N]
    contents: np.ndarray  # float64 [N]: convoy.data.images.hashing.content_hash of each; NaN where it was not computed
    reasons: dict[str, str]  # path -> why, of those of Kind.BAD

    @classmethod
    def scan(
        cls, root: Path, paths: Sequence[str], hashed: Sequence[bool] | None = None, listed: Path | None = None
    ) -> Catalogue:
        """The headers of files below a folder, and the hashes of those that are to be `hashed`.

        A file that has kept its size and time of change is not opened again, unless it could not be read: a decoder may have
        been installed meanwhile. The cache has one list for each folder, or for each file, `listed`, that lists files.
        """
        before = len(prefix(root))
        names = [os.fsencode(path[before:]) for path in paths]
        hashed = [False] * len(paths) if hashed is None else hashed
        place = _place(listed or root)
        known = _load(place)
        entries, contents, reasons = np.zeros(len(paths), ENTRY), np.full(len(paths), np.nan), dict[str, str]()
        unknown = []
        for row, (name, path) in enumerate(zip(names, paths, strict=True)):
            cached = known.get(name)
            if cached is None or (hashed[row] and math.isnan(cached.content)) or cached.entry[:2] != stamp(path):
                unknown.append(row)
                continue
            entries[row], contents[row] = cached.entry, cached.content
        for row, file in zip(unknown, _looked([(paths[row], hashed[row]) for row in unknown]), strict=True):
            header = file.header
            entries[row] = (file.size, file.changed, header.kind, header.orientation, header.height, header.width)
            contents[row] = file.content
            if header.kind == Kind.BAD:
                reasons[paths[row]] = header.reason
        if unknown or len(known) != len(names):
            readable = np.flatnonzero(entries["kind"] != Kind.BAD)
            _save(place, [names[row] for row in readable], entries[readable], contents[readable])
        return cls(entries, contents, reasons)


class _Known(NamedTuple):
    """An image, as the cache has it."""

    entry: tuple[int, ...]
    content: float


def upright(entry: np.void) -> tuple[int, int]:
    """(height, width) of an image once it is turned."""
    height, width = int(entry["height"]), int(entry["width"])
    return (width, height) if entry["orientation"] >= 5 else (height, width)


def header_of(entry: np.void) -> Header:
    """The header of an image, from its entry."""
    kind, height, width, orientation = (int(entry[name]) for name in ("kind", "height", "width", "orientation"))
    return Header(Kind(kind), height, width, orientation)


def stamp(path: str) -> tuple[int, int]:
    """(size, time of change in ns) of a file; (-1, 0) for what is none."""
    with contextlib.suppress(OSError):
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than the file to look at
        if stat.S_ISREG(status.st_mode):
            return status.st_size, status.st_mtime_ns
    return -1, 0


def _looked(files: Sequence[tuple[str, bool]]) -> list[Look]:
    """Looks at files: (path, whether to read all of it)."""
    from rich.console import Console
    from rich.progress import track

    console = Console(file=terminal.unguarded(sys.stderr))
    quiet = not console.is_terminal or len(files) < _MANY
    chunks = [files[first : first + _CHUNK] for first in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        looks = itertools.chain.from_iterable(threads.map(lambda chunk: [look(*file) for file in chunk], chunks))
        return list(track(looks, "Reading headers", len(files), console=console, transient=True, disable=quiet))


def _place(listed: Path) -> Path:
    digest = hashlib.blake2b(os.fsencode(listed.resolve()), digest_size=12).hexdigest()
    return caches() / "folders" / f"{digest}.{_SCHEMA}.npz"


def _load(place: Path) -> dict[bytes, _Known]:
    """Reads the cache, by name, without files that could not be read; empty if it is missing or corrupt."""
    try:
        with np.load(place) as stored:
            names, entries = stored["names"].tobytes().split(b"\0"), stored["entries"].tolist()
            known = dict(zip(names, map(_Known, entries, stored["contents"].tolist()), strict=bool(entries)))
            return {name: file for name, file in known.items() if file.entry[2] != Kind.BAD}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError):  # the last for damaged flags
        return {}


def _save(place: Path, names: Sequence[bytes], entries: np.ndarray, contents: np.ndarray) -> None:
    """Writes the cache; one that cannot be written is left out."""
    partial = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                listed = np.frombuffer(b"\0".join(names), np.uint8)
                np.savez(file, names=listed, entries=entries, contents=contents)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
