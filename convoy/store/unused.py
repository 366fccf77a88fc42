"""Folders that were made for a run that then wrote nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from convoy import exits
from convoy.outside import open_lock
from convoy.store.local import LOCK


@contextlib.contextmanager
def none_left(url: str) -> Iterator[None]:
    """Removes the run directory, and the folders above it, that were made within and hold nothing but the lock.

    What stood there before stays, and so does what another process has locked. A bucket has no folders.
    """
    root = Path(url).expanduser().absolute()
    new = [] if "://" in url else [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError, exits.BadData):  # one that is not empty, or that another process has locked
            for folder in new:
                _remove_lock(folder)
                folder.rmdir()


def _remove_lock(folder: Path) -> None:
    if [entry.name for entry in os.scandir(folder)] != [LOCK]:
        return
    lock = open_lock(folder / LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / LOCK).unlink()
    finally:
        os.close(lock)
