"""Where runs keep their objects: one small interface, a local folder today, a bucket behind the same calls."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from convoy import exits


class Store(Protocol):
    """Named objects under one root. Names are relative, with `/` between parts.

    When the storage refuses, every method raises exits.CannotRun, a sentence with the place and the remedy; when it is
    away for a while, exits.TryAgain.
    """

    url: str

    def put(self, name: str, data: bytes) -> None:
        """Writes an object as a whole: a reader sees the old one or the new one, also after a crash."""

    def claim(self, name: str, data: bytes) -> bool:
        """Like `put`, but only if there is no such object; False says that another writer was first."""

    def get(self, name: str) -> bytes:
        """The object's bytes; FileNotFoundError if there is none."""

    def append(self, name: str, text: str) -> None:
        """Adds whole lines to the end of an object, durably; a line that an earlier death cut short stays one of its own."""

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
    """The store of a run directory: a local path."""
    if "://" in url:
        scheme = url.split("://", 1)[0]
        raise exits.CannotRun(f"--run_dir={url}: {scheme}:// is not a place Convoy can write yet; give a local path.")
    from convoy.store.local import LocalStore

    return LocalStore(url)
