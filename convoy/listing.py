"""Folders, listed whole or not at all: os.walk and globs pass over a folder that cannot be listed, as if it were empty."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from convoy import exits
from convoy.outside import printable

# Of storage, not of what stands there: worth another try.
AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}


def entries_of(folder: Path | str) -> list[os.DirEntry[str]]:
    """What stands in a folder, in no order; nothing if it is not there.

    Raises:
      OSError: for any other reason; whoever reads it as an empty folder loses data.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []


def files_below(folder: Path | str) -> list[os.DirEntry[str]]:
    """All that is no folder below one, at any depth, in no order; no link is followed. Raises like entries_of."""
    pending, files = [os.fspath(folder)], []
    while pending:
        for entry in entries_of(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            else:
                files.append(entry)
    return files


@contextlib.contextmanager
def listing(folder: Path | str) -> Iterator[None]:
    """Turns what the system says of a folder that cannot be listed, or of one below it, into a sentence."""
    try:
        yield
    except OSError as error:
        place = printable(os.fsdecode(error.filename or folder))
        what = f"cannot list {place}: {exits.reason(error)}"
        if error.errno in AWAY:
            raise exits.TryAgain(f"{what}; the same command will continue.") from error
        raise exits.CannotRun(f"{what}; make it readable for you, or take it out of there.") from error
