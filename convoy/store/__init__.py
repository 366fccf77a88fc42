"""Where runs keep their objects: one small interface before a local folder or a bucket."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from convoy import exits

Data = bytes | bytearray | memoryview


class Store(Protocol):
    """Named objects under one root. Names are relative, with `/` between parts. Threads may call all of it at once.

    When the storage refuses, every method raises exits.CannotRun, a sentence with the place and the remedy; when it is
    away for a while, exits.TryAgain.
    """

    url: str

    def put(self, name: str, data: Data) -> int:
        """Writes an object as a whole: a reader sees the old one or the new one, also after a crash.

        Returns its generation, which no later object of that name will have; 0 where the place counts none.
        """

    def claim(self, name: str, data: Data) -> bool:
        """Like `put`, but only if there is no such object; False says that another writer was first."""

    def get(self, name: str, generation: int = 0) -> bytes:
        """The object's bytes, of one generation if that is given; FileNotFoundError if there is none."""

    def fetch(self, name: str, path: Path, generation: int = 0) -> None:
        """Like `get`, into a local file, which appears when it is whole: for what is too large to be held in memory."""

    def append(self, name: str, text: str) -> None:
        """Adds whole lines to the end of an object; a line that an earlier death cut short stays one of its own.

        Durable at the next `flush`, in a folder at once.
        """

    def rewrite(self, name: str, text: str) -> None:
        """Replaces what was appended to an object, as a whole."""

    def flush(self) -> None:
        """Makes durable what was appended."""

    def close(self) -> None:
        """Flushes, and leaves every appended object as one."""

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects below a prefix (a folder), sorted."""

    def remove(self, prefix: str) -> None:
        """Removes one object, or all below a folder; none there is no error."""

    def sweep(self) -> None:
        """Removes what a writer that died left of its last object. Only for the one writer that holds the lock."""

    def foreign(self) -> str:
        """The name of something at the root, empty if there is nothing: a new run wants an empty place."""

    def locked(self) -> AbstractContextManager[None]:
        """Within, this process is the only writer, until it leaves or dies; CannotRun if another one is."""


def open_store(url: str) -> Store:
    """The store of a run directory: a local path, or gs://BUCKET/PATH."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        from convoy.store.local import LocalStore

        return LocalStore(url)
    if scheme == "gs":
        from convoy.store.gcs import GcsStore

        return GcsStore(url)
    raise exits.CannotRun(
        f"{url}: {scheme}:// is no place that Convoy can write; give a local path or gs://BUCKET/PATH."
    )
