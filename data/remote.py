"""Packed records in a bucket: copied to this machine once, and read there like any others.

Random reads of single images from a bucket take milliseconds each; whole files come at the speed of the network. A copy is
kept, and its manifest says what of it is still what the bucket holds.
"""

from __future__ import annotations

import mmap
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convoy import exits
from convoy.store import Store, open_store
from data import records
from data.alone import alone
from data.caches import copy_of
from data.records import Damaged

_TOGETHER = 4  # files on their way at the same time
_LOCK, _REMEDY = ".copying.lock", "name another place with --data_dir."


def mirrored(url: str, data_dir: str) -> Path:
    """The folder with a copy of the records at a url, brought up to date.

    Raises:
      exits.CannotRun: there are none, or there is no room for them here.
      exits.BadData: they are not packed to their end, or damaged.
    """
    store, root = open_store(url), copy_of(url, data_dir)
    with alone(root, _LOCK, _REMEDY):
        manifest = _remote_manifest(store, root)
        entries, before = manifest["files"], _entries(root)
        missing = [name for name in entries if before.get(name) != entries[name] or not _is_there(root, name, entries)]
        size = sum(entries[name]["bytes"] for name in missing)
        if size > (free := shutil.disk_usage(root).free):
            raise exits.CannotRun(
                f"records:{url} takes {size / 2**30:.1f} GiB, and {root} has {free / 2**30:.1f} GiB free; name a larger place"
                " with --data_dir."
            )
        if missing:
            print(f"Copying {len(missing)} files, {size / 2**20:,.1f} MiB, of {url} to {root}", flush=True)
            (root / records.MANIFEST).unlink(missing_ok=True)  # from here on it is not whole

        def fetch(name: str) -> None:
            try:
                store.fetch(name, root / name)
            except FileNotFoundError:
                raise exits.BadData(f"{url} has no {name}, which its manifest names; pack anew.") from None
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise exits.CannotRun(f"cannot write {root / name}: {reason}; {_REMEDY}") from error

        with ThreadPoolExecutor(_TOGETHER) as pool:
            list(pool.map(fetch, missing))
        if missing or not before:
            records.write_json(root / records.MANIFEST, manifest)
    return root


def send(root: Path, url: str) -> None:
    """Copies a whole packing to a bucket, its manifest last; what an earlier try has sent of it is not sent again.

    Raises:
      exits.CannotRun: something else stands there.
    """
    store, manifest = open_store(url), records.read_json(root / records.MANIFEST)
    with store.locked(), alone(root, _LOCK, _REMEDY):
        there = set(store.names())
        if records.MANIFEST in there:
            if _remote_manifest(store, root)["plan"] != manifest["plan"]:
                raise exits.CannotRun(f"--out={url} holds another packing; choose another place.")
            print(f"{url} holds all of it already.")
            return
        plan = root / f"{records.PLAN}.sent"
        records.write_json(plan, manifest["plan"])
        if records.PLAN in there:
            if store.get(records.PLAN) != plan.read_bytes():
                raise exits.CannotRun(f"--out={url} holds the begin of another packing; choose another place.")
        elif foreign := store.foreign():
            raise exits.CannotRun(f"--out={url} holds {foreign}; choose an empty place.")
        else:
            store.put(records.PLAN, plan.read_bytes())
        plan.unlink()

        def put(name: str) -> None:
            with (root / name).open("rb") as file:
                store.put(name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

        missing = [name for name in manifest["files"] if name not in there]
        print(f"Sending {len(missing)} files to {url}", flush=True)
        with ThreadPoolExecutor(_TOGETHER) as pool:
            list(pool.map(put, missing))
        store.put(records.MANIFEST, (root / records.MANIFEST).read_bytes())
        store.remove(records.PLAN)
    print(f"--dataset=records:{url}")


def _remote_manifest(store: Store, root: Path) -> dict[str, Any]:
    fetched = root / f"{records.MANIFEST}.there"
    try:
        store.fetch(records.MANIFEST, fetched)
        return records.read_json(fetched)
    except FileNotFoundError:
        if records.PLAN in store.names():
            raise exits.BadData(
                f"{store.url} is not packed to its end; give the same `convoy data pack` again, which goes on there."
            ) from None
        raise exits.CannotRun(
            f"records:{store.url} has no {records.MANIFEST}; give a place that `convoy data pack` filled."
        ) from None
    except Damaged:
        raise exits.BadData(f"{store.url}/{records.MANIFEST} is not as it was written; pack anew.") from None
    finally:
        fetched.unlink(missing_ok=True)


def _entries(root: Path) -> dict[str, Any]:
    """Of the copy that is there whole; none otherwise."""
    try:
        return records.read_json(root / records.MANIFEST)["files"]
    except (FileNotFoundError, Damaged):
        return {}


def _is_there(root: Path, name: str, entries: dict[str, Any]) -> bool:
    path = root / name
    return path.is_file() and path.stat().st_size == entries[name]["bytes"]
