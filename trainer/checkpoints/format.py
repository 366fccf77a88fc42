"""One checkpoint in a store: a folder of .npz files and a state.json, complete when its MANIFEST.json is there.

    checkpoints/00000040.2/model.npz      tensors by Keras variable path: numpy.load reads them
                           optimizer.npz
                           ema.npz        only with --ema
                           state.json     step, position and records
                           MANIFEST.json  names, sizes and crc32c of the others; written last

The folder's name is STEP.ATTEMPT: no attempt of a run ever writes into the folder of another one.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import google_crc32c
import numpy as np

from convoy import exits
from convoy.store import Store

ROOT = "checkpoints"
MANIFEST = "MANIFEST.json"
SCHEMA = 1
_FOLDER = re.compile(r"(\d+)\.(\d+)")


class Damaged(Exception):
    """A checkpoint that cannot be used; the text says which object of it and why."""


@dataclasses.dataclass(frozen=True, order=True)
class Checkpoint:
    """The name of a checkpoint. In order: the newest is the largest."""

    step: int
    attempt: int

    @property
    def folder(self) -> str:
        return f"{ROOT}/{self.step:08d}.{self.attempt}"


def write(
    store: Store,
    checkpoint: Checkpoint,
    tensors: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    before_manifest: Callable[[], None] = lambda: None,
) -> None:
    """Writes a checkpoint. `tensors` are named KIND/PATH, and every kind becomes a file."""
    objects = {}
    for kind in sorted({name.partition("/")[0] for name in tensors}):
        buffer = io.BytesIO()
        members = {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{kind}/")}
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            # numpy.savez takes the names as keyword arguments, some of which have a meaning.
            for path, value in members.items():
                with archive.open(f"{path}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(value), allow_pickle=False)
        objects[f"{kind}.npz"] = buffer.getvalue()
    objects["state.json"] = json.dumps(state, indent=1).encode()
    entries = {}
    for name, data in objects.items():
        store.put(f"{checkpoint.folder}/{name}", data)
        entries[name] = {"bytes": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}
    before_manifest()
    manifest = {"schema": SCHEMA, "step": checkpoint.step, "attempt": checkpoint.attempt, "objects": entries}
    if not store.claim(f"{checkpoint.folder}/{MANIFEST}", json.dumps(manifest, indent=1).encode()):
        raise exits.CannotRun(
            f"another process has written {store.url}/{checkpoint.folder}; only one may train in a run directory, stop one."
        )


def read(store: Store, checkpoint: Checkpoint) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by KIND/PATH, state) of a complete checkpoint; Damaged names the object that is not as it was written."""
    try:
        manifest = json.loads(store.get(f"{checkpoint.folder}/{MANIFEST}"))
        schema, objects = manifest["schema"], manifest["objects"]
        entries = {str(name): (int(entry["bytes"]), str(entry["crc32c"])) for name, entry in objects.items()}
    except FileNotFoundError:
        raise Damaged(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{MANIFEST} does not read as one") from error
    if schema != SCHEMA:
        raise Damaged(f"{MANIFEST} has schema {schema}, this version of Convoy reads {SCHEMA}")
    tensors: dict[str, np.ndarray] = {}
    state: dict[str, Any] | None = None
    for name, (size, crc) in entries.items():
        try:
            data = store.get(f"{checkpoint.folder}/{name}")
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        if len(data) != size:
            raise Damaged(f"{name} has {len(data)} bytes of {size}")
        if f"{google_crc32c.value(data):08x}" != crc:
            raise Damaged(f"{name} has another crc32c than its manifest says")
        if name == "state.json":
            state = json.loads(data)
        else:
            kind = name.removesuffix(".npz")
            with np.load(io.BytesIO(data), allow_pickle=False) as members:
                tensors |= {f"{kind}/{path}": members[path] for path in members.files}
    if state is None:
        raise Damaged("state.json is missing")
    return tensors, state


def complete(store: Store) -> list[Checkpoint]:
    """Every checkpoint with a manifest, oldest first."""
    return sorted(_folders(store, with_manifest=True))


def incomplete(store: Store) -> list[Checkpoint]:
    """What died before its manifest was written."""
    return sorted(_folders(store, with_manifest=False) - _folders(store, with_manifest=True))


def attempts(store: Store) -> int:
    """The largest number of an attempt that has begun a checkpoint, complete or not."""
    return max((one.attempt for one in _folders(store, with_manifest=False)), default=0)


def remove(store: Store, checkpoint: Checkpoint) -> None:
    """Its manifest first: a removal that dies half-way leaves no checkpoint that looks complete."""
    store.remove(f"{checkpoint.folder}/{MANIFEST}")
    store.remove(checkpoint.folder)


def _folders(store: Store, with_manifest: bool) -> set[Checkpoint]:
    found = set()
    for name in store.names(ROOT):
        _, folder, *rest = name.split("/")
        match = _FOLDER.fullmatch(folder)
        if match and (not with_manifest or rest == [MANIFEST]):
            found.add(Checkpoint(int(match[1]), int(match[2])))
    return found
