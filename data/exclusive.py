"""One process of this machine at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from convoy import exits
from convoy.outside import open_lock, printable


@contextlib.contextmanager
def exclusive_lock(folder: Path, lock: str, remedy: str, busy: str = "") -> Iterator[None]:
    """Makes a folder; within, this process is the only one there.

    Args:
      lock: the name of a file in it, which stays.
      remedy: what to do where the place cannot be written, for a sentence.
      busy: the sentence for another process that is there now; without one, it is waited for.

    Raises:
      exits.CannotRun: the folder cannot be written, or is busy.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = open_lock(folder / lock)
    except OSError as error:
        reason = exits.reason(error)
        raise exits.CannotRun(f"cannot write {printable(str(folder / lock))}: {reason}; {remedy}") from error
    try:
        try:
            # The kernel gives the lock back however this process dies.
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise exits.CannotRun(busy) from None
        yield
    finally:
        os.close(descriptor)
