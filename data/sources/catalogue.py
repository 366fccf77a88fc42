"""What the headers of a folder's images say, read once and kept in the user's cache. Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.caches import caches
from data.probe import Header, Kind, probe

# One image, as the cache holds it beside its name: size and time of change say whether the rest still holds.
ENTRY = np.dtype(
    [("size", "<i8"), ("changed", "<i8"), ("kind", "u1"), ("orientation", "u1"), ("height", "<i4"), ("width", "<i4")]
)
_SCHEMA = 2
_AT_ONCE = 4  # files that are opened at once, for storage that is far away
_MANY = 2000  # files that take long enough for a bar


class Catalogue(NamedTuple):
    """The headers of N image files."""

    entries: np.ndarray  # ENTRY [N]
    reasons: dict[str, str]  # path -> why, of those of Kind.BAD

    @classmethod
    def of(cls, root: Path, paths: Sequence[str]) -> Catalogue:
        """The headers of files below a folder. One that has kept its size and time of change is not opened again."""
        # Nothing stands before the names of files in `.`, and of `/` no separator follows.
        before = 0 if root == Path() else len(os.path.join(root, ""))  # noqa: PTH118
        names = [os.fsencode(path[before:]) for path in paths]
        place = _place(root)
        known, known_reasons = _load(place)
        entries, reasons, unknown = np.zeros(len(paths), ENTRY), dict[str, str](), []
        for row, (name, path) in enumerate(zip(names, paths, strict=True)):
            size, changed = _stamp(path)
            then = known.get(name)
            if then and then[:2] == (size, changed):
                entries[row] = then
                if then[2] == Kind.BAD:
                    reasons[path] = known_reasons[os.fsdecode(name)]
            else:
                entries[row] = (size, changed, 0, 0, 0, 0)
                unknown.append(row)
        for row, header in zip(unknown, _probed([paths[row] for row in unknown]), strict=True):
            entries[row] = (*entries[row].item()[:2], header.kind, header.orientation, header.height, header.width)
            if header.kind == Kind.BAD:
                reasons[paths[row]] = header.reason
        if unknown or len(known) != len(names):
            _save(place, names, entries, {path[before:]: reason for path, reason in reasons.items()})
        return cls(entries, reasons)


def upright(entry: np.void) -> tuple[int, int]:
    """(height, width) of an image once it is turned."""
    height, width = int(entry["height"]), int(entry["width"])
    return (width, height) if entry["orientation"] >= 5 else (height, width)


def _stamp(path: str) -> tuple[int, int]:
    """(size, time of change in ns) of a file; (-1, 0) for what is none."""
    with contextlib.suppress(OSError):
        status = os.stat(path)  # noqa: PTH116 - a Path takes longer to make than the file to look at
        if stat.S_ISREG(status.st_mode):
            return status.st_size, status.st_mtime_ns
    return -1, 0


def _probed(paths: Sequence[str]) -> list[Header]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not console.is_terminal or len(paths) < _MANY
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = threads.map(probe, paths)
        return list(track(found, "Reading headers", len(paths), console=console, transient=True, disable=quiet))


def _place(root: Path) -> Path:
    folder = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=12).hexdigest()
    return caches() / "folders" / f"{folder}.{_SCHEMA}.npz"


def _load(place: Path) -> tuple[dict[bytes, tuple[int, ...]], dict[str, str]]:
    """Name -> entry, name -> reason; nothing of a file that is absent or damaged."""
    try:
        with np.load(place) as stored:
            names, entries = stored["names"].tobytes().split(b"\0"), stored["entries"].tolist()
            reasons = json.loads(stored["reasons"].tobytes())
            return dict(zip(names, entries, strict=True)), reasons
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError):  # the last for damaged flags
        return {}, {}


def _save(place: Path, names: Sequence[bytes], entries: np.ndarray, reasons: dict[str, str]) -> None:
    """A cache that cannot be written is none."""
    partial = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                texts = (b"\0".join(names), json.dumps(reasons).encode())
                listed, why = (np.frombuffer(text, np.uint8) for text in texts)
                np.savez(file, names=listed, entries=entries, reasons=why)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
