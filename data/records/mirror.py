"""Packed records in a bucket: copied to this machine once, whole or but for the shards, and read there like any others.

Random reads of single images from a bucket take milliseconds each; whole files come at the speed of the network. A copy is
kept, and its manifest says what of it is still what the bucket holds.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convoy import exits
from convoy.counting import counted
from convoy.data.exclusive import exclusive_lock
from convoy.data.records import format
from convoy.data.records.caches import copy_of
from convoy.data.records.manifest import (
    MANIFEST,
    PLAN,
    CorruptRecords,
    Entry,
    Manifest,
    parse_manifest,
    read_manifest,
    shard_names,
)
from convoy.outside import Name
from convoy.store import Store, open_store

STREAMED = ".streamed"  # below the place of a copy: what of it a stream needs
_TOGETHER = 4  # files on their way at the same time
_LOCK, _REMEDY = ".copying.lock", "name another place with --data_dir."


def mirrored(url: str, data_dir: str, shards: bool = True) -> Path:
    """The folder with a copy of the records at a url, brought up to date. Writes nothing outside that folder.

    Args:
      url: the records.
      data_dir: --data_dir.
      shards: whether they are copied too. Without them the copy is another one, whose manifest makes no copy whole.

    Raises:
      exits.CannotRun: there are none, or there is no room for them here.
      exits.BadData: they are not packed to their end, damaged, or not such as `convoy data pack` writes.
    """
    store, root = open_store(url), copy_of(url, data_dir)
    root = root if shards else root / STREAMED
    with exclusive_lock(root, _LOCK, _REMEDY):
        manifest = remote_manifest(store)
        entries, before = manifest.files, _entries(root)
        if not shards:
            streamed = {name for split, planned in manifest.splits.items() for name in shard_names(split, planned)}
            entries = {name: entry for name, entry in entries.items() if name not in streamed}
        missing = [name for name in entries if before.get(name) != entries[name] or not _is_there(root, name, entries)]
        size = sum(entries[name].bytes for name in missing)
        if size > (free := shutil.disk_usage(root).free):
            raise exits.CannotRun(
                f"records:{url} takes {size / 2**30:.1f} GiB, and {root} has {free / 2**30:.1f} GiB free; name a larger place"
                " with --data_dir."
            )
        if missing:
            print(f"Copying {counted(len(missing), 'file')}, {size / 2**20:,.1f} MiB, of {url} to {root}", flush=True)
            (root / MANIFEST).unlink(missing_ok=True)  # from here on it is not whole

        def fetch(name: Name) -> None:
            try:
                store.download(name, root / name, max_bytes=entries[name].bytes)
            except FileNotFoundError:
                raise exits.BadData(f"{url} has no {name}, which its manifest names; pack anew.") from None
            except OSError as error:
                reason = exits.reason(error)
                raise exits.CannotRun(f"cannot write {root / name}: {reason}; {_REMEDY}") from error

        with ThreadPoolExecutor(_TOGETHER) as pool:
            list(pool.map(fetch, missing))
        if missing or not before:
            format.write_json(root / MANIFEST, manifest.document)
    return root


def remote_manifest(store: Store) -> Manifest:
    """That of the records in a bucket; BadData or CannotRun without a whole one."""
    try:
        return parse_manifest(store.get(MANIFEST), f"{store.url}/{MANIFEST}")
    except FileNotFoundError:
        if PLAN in store.list_names():
            raise exits.BadData(
                f"{store.url} is not packed to its end; give the same `convoy data pack` again, which goes on there."
            ) from None
        raise exits.CannotRun(
            f"records:{store.url} has no {MANIFEST}; give a place that `convoy data pack` filled."
        ) from None
    except CorruptRecords:
        raise exits.BadData(f"{store.url}/{MANIFEST} is not as it was written; pack anew.") from None


def _entries(root: Path) -> dict[Name, Entry]:
    """Of the copy that is there whole; none otherwise."""
    try:
        return read_manifest(root / MANIFEST).files
    except (FileNotFoundError, CorruptRecords, exits.ConvoyError):
        return {}


def _is_there(root: Path, name: Name, entries: dict[Name, Entry]) -> bool:
    path = root / name
    return path.is_file() and path.stat().st_size == entries[name].bytes
