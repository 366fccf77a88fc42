"""One checkpoint in a store: a folder of .npz files and a state.json, complete when its MANIFEST.json is there.

    checkpoints/00000040.2/model.npz      tensors by Keras variable path: numpy.load reads them; large models have several,
                           optimizer.npz  model-00001-of-00003.npz and so on
                           ema.npz        only with --ema
                           state.json     step, position and records
                           MANIFEST.json  names, sizes, crc32c, generations and tensors of the others; written last

The folder's name is STEP.ATTEMPT: no attempt of a run ever writes into the folder of another one.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from convoy import exits
from convoy.outside import MAX_DOCUMENT_BYTES
from convoy.store import Data, Store
from convoy.store.checksum import crc32c
from trainer.files import CHECKPOINTS

MANIFEST, STATE = "MANIFEST.json", "state.json"
SCHEMA = 2
_TOGETHER = 4  # objects that are on their way at the same time
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
        return f"{CHECKPOINTS}/{self.step:08d}.{self.attempt}"


def write(
    store: Store,
    checkpoint: Checkpoint,
    files: Mapping[str, Data],
    tensors: Mapping[str, list[str]],
    state: Mapping[str, Any],
    passing: Callable[[str], None] = lambda phase: None,
) -> None:
    """Writes a checkpoint: all objects side by side, then the manifest.

    Args:
      store: of the run.
      checkpoint: its name.
      files: object name -> content, of a Snapshot.
      tensors: object name -> the tensors in it.
      state: what is not tensors; JSON.
      passing: is told when `upload` (each object), `manifest` is due.

    Raises:
      exits.CannotRun: another process has written this checkpoint.
    """
    objects: dict[str, Data] = {**files, STATE: json.dumps(state, indent=1).encode()}

    def put(name: str) -> dict[str, Any]:
        data = objects[name]
        entry = {"bytes": len(data), "crc32c": f"{crc32c(data):08x}"}
        entry["generation"] = store.put(f"{checkpoint.folder}/{name}", data)
        passing("upload")
        return entry | ({"tensors": tensors[name]} if name in tensors else {})

    with ThreadPoolExecutor(_TOGETHER, "objects") as pool:
        entries = dict(zip(objects, pool.map(put, objects), strict=True))
    store.flush()  # the records that the state counts
    passing("manifest")
    # Its writer makes a manifest unlike any other, so that one whose answer was lost is known again.
    manifest = {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "attempt": checkpoint.attempt,
        "writer": uuid.uuid4().hex,
        "objects": entries,
    }
    if not store.claim(f"{checkpoint.folder}/{MANIFEST}", json.dumps(manifest, indent=1).encode()):
        raise exits.CannotRun(
            f"another process has written {store.url}/{checkpoint.folder}; only one may train in a run directory, stop one."
        )


def read_manifest(store: Store, checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Object name -> its entry (bytes, crc32c, generation, tensors); Damaged if there is no manifest or it is none."""
    try:
        manifest = json.loads(store.get(f"{checkpoint.folder}/{MANIFEST}"))
        schema = manifest["schema"]
        entries = {
            str(name): {
                "bytes": int(entry["bytes"]),
                "crc32c": str(entry["crc32c"]),
                "generation": int(entry["generation"]),
                "tensors": list(entry.get("tensors", [])),
            }
            for name, entry in manifest["objects"].items()
        }
    except FileNotFoundError:
        raise Damaged(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{MANIFEST} does not read as one") from error
    if schema != SCHEMA:
        raise Damaged(f"{MANIFEST} has schema {schema}, this version of Convoy reads {SCHEMA}")
    if STATE not in entries:
        raise Damaged(f"{STATE} is missing")
    return entries


def read_state(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """What is not tensors, its checksum unchecked."""
    try:
        return parse_state(store.get(f"{checkpoint.folder}/{STATE}"))
    except FileNotFoundError:
        raise Damaged(f"{STATE} is missing") from None


def parse_state(data: bytes) -> dict[str, Any]:
    """The content of STATE; Damaged if it is none."""
    try:
        return json.loads(data)
    except ValueError:
        raise Damaged(f"{STATE} does not read as one") from None


def read_objects(store: Store, checkpoint: Checkpoint) -> Iterator[tuple[str, bytes, list[str]]]:
    """(name, content, tensors) of every object of a complete checkpoint; Damaged names one that is not as it was written."""
    entries = read_manifest(store, checkpoint)

    def get(name: str) -> bytes:
        entry = entries[name]
        try:
            # The store's own limit is for documents.
            most = max(entry["bytes"], MAX_DOCUMENT_BYTES)
            data = store.get(f"{checkpoint.folder}/{name}", entry["generation"], most)
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        if len(data) != entry["bytes"]:
            raise Damaged(f"{name} has {len(data)} bytes of {entry['bytes']}")
        if f"{crc32c(data):08x}" != entry["crc32c"]:
            raise Damaged(f"{name} has another crc32c than its manifest says")
        return data

    with ThreadPoolExecutor(_TOGETHER, "objects") as pool:
        for name, data in zip(entries, pool.map(get, entries), strict=True):
            yield name, data, entries[name]["tensors"]


def read(store: Store, checkpoint: Checkpoint) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by KIND/PATH, state) of a complete checkpoint; Damaged names the object that is not as it was written."""
    tensors: dict[str, np.ndarray] = {}
    state: dict[str, Any] = {}
    for name, data, names in read_objects(store, checkpoint):
        if name == STATE:
            state = parse_state(data)
            continue
        with np.load(io.BytesIO(data), allow_pickle=False) as members:
            tensors |= {tensor: members[tensor.partition("/")[2]] for tensor in names}
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


def remove(store: Store, checkpoint: Checkpoint, passing: Callable[[str], None] = lambda phase: None) -> None:
    """Its manifest first: a removal that dies half-way (`passing` is told of it) leaves no checkpoint that looks complete."""
    store.remove(f"{checkpoint.folder}/{MANIFEST}")
    passing("removal")
    store.remove(checkpoint.folder)


def _folders(store: Store, with_manifest: bool) -> set[Checkpoint]:
    found = set()
    for name in store.names(CHECKPOINTS):
        _, folder, *rest = name.split("/")
        match = _FOLDER.fullmatch(folder)
        if match and (not with_manifest or rest == [MANIFEST]):
            found.add(Checkpoint(int(match[1]), int(match[2])))
    return found
