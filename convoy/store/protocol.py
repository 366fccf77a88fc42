"""The interface of a place for a run's objects: a local folder, a bucket, or nowhere."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from convoy import exits
from convoy.outside import MAX_DOCUMENT_BYTES, Name

Data = bytes | bytearray | memoryview


class Store(Protocol):
    """Named objects under one root. Threads may call all of it at once.

    A name from outside becomes a Name by convoy.outside.name_in. Objects below the root may be a stranger's. So no link there
    is followed, and nothing but a regular file is read; exits.BadData names anything else.

    When the storage refuses, every method raises exits.CannotRun, a sentence with the place and the remedy; when it is
    away for a while, exits.TryAgain.
    """

    url: str

    def put(self, name: Name, data: Data) -> int:
        """Writes an object as a whole: a reader sees the old one or the new one, also after a crash.

        Returns its generation, which no later object of that name will have; 0 where the place counts none.
        """

    def put_if_absent(self, name: Name, data: Data) -> bool:
        """Like `put`, but only if there is no such object; False says that another writer was first."""

    def get(self, name: Name, generation: int = 0, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The object's bytes, of one generation if that is given; FileNotFoundError if there is none.

        BadData if it has more than `max_bytes`; none of them is read then.
        """

    def download(self, name: Name, path: Path, generation: int = 0, max_bytes: float = math.inf) -> None:
        """Like `get`, into a local file, which appears when it is whole: for what is too large to be held in memory."""

    def get_range(self, name: Name, first: int, size: int) -> bytes:
        """Bytes [first, first + size) of an object, size above 0; FileNotFoundError if there is no such object.

        BadData if the object ends before them. Whoever asks has to check them: storage has checksums of whole objects alone.
        """

    def append(self, name: Name, text: str) -> None:
        """Adds whole lines to the end of an object; a line that an earlier crash cut short stays a line of its own.

        Durable at the next `flush`, in a folder at once.
        """

    def rewrite(self, name: Name, text: str) -> None:
        """Replaces what was appended to an object, as a whole."""

    def flush(self) -> None:
        """Makes durable what was appended."""

    def close(self) -> None:
        """Flushes, and leaves every appended object as one."""

    def list_names(self, prefix: Name | None = None) -> list[Name]:
        """The names of all objects below a prefix (a folder), or of all, sorted; BadData for one that is no Name."""

    def remove(self, prefix: Name) -> None:
        """Removes one object, or all below a folder; none there is no error."""

    def folder(self, name: Name) -> Path | None:
        """Makes a local folder below the root, for a writer that needs one; None where objects are not in folders."""

    def remove_partials(self) -> None:
        """Removes the partial object of a writer that died. Only for the writer that holds the lock."""

    def first_entry(self) -> str:
        """The name of an object or folder at the root, empty if there is none: a new run wants an empty place."""

    def locked(self) -> AbstractContextManager[None]:
        """Within, this process is the only writer, until it leaves or dies; CannotRun if another one is."""


def too_short(place: str, end: int) -> exits.BadData:
    return exits.BadData(f"{place} ends before byte {end:,}, which its index says that it has; do not use it.")


def too_large(place: str, max_bytes: int) -> exits.BadData:
    return exits.BadData(f"{place} has more than {max_bytes:,} bytes, which no object of its kind has; do not use it.")
