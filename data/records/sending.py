"""A packing on its way to a bucket: file by file, each whole or absent, the manifest last. What was sent is not sent again."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from convoy import exits
from convoy.data.records import format
from convoy.data.records.manifest import MANIFEST, PLAN, CorruptRecords, Entry, write_document
from convoy.data.records.mirror import remote_manifest
from convoy.outside import Name, below, name_in, read_file
from convoy.store import Store, open_store

_SENT = "sent"  # the folder, beside the files, of what is in the bucket: an Entry for each


class Sending:
    """Files that leave a folder for a bucket.

    Args:
      store: the bucket.
      root: the folder.
      stored: what an earlier attempt has sent.
    """

    def __init__(self, store: Store, root: Path, stored: set[Name]):
        self.url, self._store, self._root, self._stored = store.url, store, root, stored

    def entry(self, name: Name) -> Entry | None:
        """That of a file which this machine has sent; None for any other."""
        try:
            entry = Entry(**format.read_json(self._root / self._receipt(name))["file"])
        except (FileNotFoundError, CorruptRecords, KeyError, TypeError):
            return None
        return entry if name in self._stored else None

    def put(self, name: Name, entry: Entry) -> None:
        """Sends a file, unless an earlier attempt has, and removes it here."""
        path = self._root / name
        if self.entry(name) != entry:
            with path.open("rb") as file:
                self._store.put(name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
            self._stored.add(name)
            (self._root / _SENT).mkdir(exist_ok=True)
            format.write_json(self._root / self._receipt(name), {"file": dataclasses.asdict(entry)})
        path.unlink(missing_ok=True)

    def finish(self, manifest: bytes) -> None:
        """Makes the packing whole."""
        self._store.put(MANIFEST, manifest)
        self._store.remove(PLAN)
        self.forget()

    def forget(self) -> None:
        """Removes what is written here about files that were sent."""
        with contextlib.suppress(FileNotFoundError):
            for receipt in (self._root / _SENT).iterdir():
                receipt.unlink()
            (self._root / _SENT).rmdir()

    def _receipt(self, name: Name) -> Name:
        return below(name_in(_SENT, "a folder"), f"{name}.json")


@contextlib.contextmanager
def sending(url: str, root: Path, plan: Mapping[str, object]) -> Iterator[Sending | None]:
    """Within, nobody else writes to a bucket, and the files of a packing in `root` go there; None if it holds all of them.

    Raises:
      exits.CannotRun: something else stands there.
    """
    store = open_store(url, "out")
    with store.locked():
        stored = set(store.list_names())
        if MANIFEST in stored:
            if remote_manifest(store).plan != plan:
                raise exits.CannotRun(f"--out={url} holds another packing; choose another place.")
            yield None
            return
        document = write_document(dict(plan))
        if PLAN in stored:
            if store.get(PLAN) != document:
                raise exits.CannotRun(f"--out={url} holds the begin of another packing; choose another place.")
        elif entry := store.first_entry():
            raise exits.CannotRun(f"--out={url} holds {entry}; choose an empty place.")
        else:
            store.put(PLAN, document)
        own = Sending(store, root, stored)
        try:
            here = read_file(root / PLAN)
        except FileNotFoundError:
            here = b""
        if here != document:  # of another packing
            own.forget()
        yield own
