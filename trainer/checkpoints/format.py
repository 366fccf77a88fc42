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
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from convoy import exits
from convoy.data import memory
from convoy.outside import below
from convoy.store import Data, Store
from convoy.store.checksum import crc32c
from convoy.trainer.checkpoints.archive import members
from convoy.trainer.checkpoints.documents import (
    MANIFEST,
    SCHEMA,
    STATE,
    Checkpoint,
    CorruptCheckpoint,
    Entry,
    ForeignCheckpoint,
    parse_manifest,
    parse_state,
)
from convoy.trainer.run_dir.files import CHECKPOINTS

_TOGETHER = 4  # objects that are on their way at the same time


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a checkpoint, found to be what a run saves. `tensors` are views of `data`, by KIND/PATH."""

    name: str
    data: bytes
    tensors: dict[str, np.ndarray]


def write(
    store: Store,
    checkpoint: Checkpoint,
    files: Mapping[str, Data],
    tensors: Mapping[str, list[str]],
    state: Mapping[str, Any],
    on_phase: Callable[[str], None] = lambda phase: None,
) -> None:
    """Writes a checkpoint: all objects side by side, then the manifest.

    Args:
      store: of the run.
      checkpoint: its name.
      files: object name -> content, of a Snapshot.
      tensors: object name -> the tensors in it.
      state: what is not tensors; JSON.
      on_phase: called with `upload` after each object, and with `manifest` before that is written.

    Raises:
      exits.CannotRun: another process has written this checkpoint.
    """
    folder = checkpoint.folder
    assert Checkpoint.of_folder(folder.removeprefix(f"{CHECKPOINTS}/")) == checkpoint, "or nobody would find it again"
    objects: dict[str, Data] = {**files, STATE: json.dumps(state, indent=1).encode()}

    def put(name: str) -> dict[str, Any]:
        data = objects[name]
        entry = {"bytes": len(data), "crc32c": f"{crc32c(data):08x}"}
        entry["generation"] = store.put(below(folder, name), data)
        on_phase("upload")
        return entry | ({"tensors": tensors[name]} if name in tensors else {})

    with ThreadPoolExecutor(_TOGETHER, "objects") as pool:
        entries = dict(zip(objects, pool.map(put, objects), strict=True))
    store.flush()  # the records that the state counts
    on_phase("manifest")
    # Its writer makes a manifest unlike any other, so that one whose answer was lost is known again.
    manifest = {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "attempt": checkpoint.attempt,
        "writer": uuid.uuid4().hex,
        "objects": entries,
    }
    if not store.put_if_absent(below(folder, MANIFEST), json.dumps(manifest, indent=1).encode()):
        raise exits.CannotRun(
            f"another process has written {store.url}/{folder}; only one may train in a run directory, stop one."
        )


def read_manifest(store: Store, checkpoint: Checkpoint) -> dict[str, Entry]:
    """Object name -> its entry; CorruptCheckpoint if there is no manifest or it is none."""
    return parse_manifest(_get(store, checkpoint, MANIFEST))


def read_state(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """What is not tensors."""
    return parse_state(_whole(store, checkpoint, STATE, read_manifest(store, checkpoint)[STATE]), checkpoint)


def read_objects(store: Store, checkpoint: Checkpoint) -> Iterator[Object]:
    """Every object of a complete checkpoint; CorruptCheckpoint names one that is not as a run wrote it."""
    entries = read_manifest(store, checkpoint)
    needed = sum(entry.bytes for entry in entries.values())
    available = memory.size()
    if needed > available:
        raise CorruptCheckpoint(
            f"its objects have {needed:,} bytes, and this machine's memory has {available:,}; use a larger one"
        )

    def get(name: str) -> Object:
        data = _whole(store, checkpoint, name, entries[name])
        if name == STATE:
            parse_state(data, checkpoint)
        try:
            return Object(name, data, {} if name == STATE else _tensors(data, entries[name].tensors))
        except ValueError as error:
            raise ForeignCheckpoint(f"{name} {error}") from error

    with ThreadPoolExecutor(_TOGETHER, "objects") as pool:
        yield from pool.map(get, entries)


def read(
    store: Store,
    checkpoint: Checkpoint,
    check: Callable[[Mapping[str, np.ndarray]], None] = lambda tensors: None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by KIND/PATH, state) of a complete checkpoint; CorruptCheckpoint names the object that is not as it should be.

    Args:
      check: is given views of the tensors before room is made for them, and may raise what it likes.
    """
    views: dict[str, np.ndarray] = {}
    state: dict[str, Any] = {}
    for stored in read_objects(store, checkpoint):
        views |= stored.tensors
        if stored.name == STATE:
            state = parse_state(stored.data, checkpoint)
    check(views)
    # Arrays of their own, which lie where processors like numbers to lie; a file goes with the last view of it.
    return {name: np.array(views.pop(name)) for name in list(views)}, state


def _get(store: Store, checkpoint: Checkpoint, name: str, entry: Entry | None = None) -> bytes:
    place = below(checkpoint.folder, name)
    try:
        return store.get(place, entry.generation, entry.bytes) if entry else store.get(place)
    except FileNotFoundError:
        raise CorruptCheckpoint(f"{name} is missing") from None
    except exits.BadData as error:
        raise ForeignCheckpoint(f"{name} cannot be used: {error}".removesuffix(".")) from error


def _whole(store: Store, checkpoint: Checkpoint, name: str, entry: Entry) -> bytes:
    data = _get(store, checkpoint, name, entry)
    if len(data) != entry.bytes:
        raise CorruptCheckpoint(f"{name} has {len(data)} bytes of {entry.bytes}")
    if f"{crc32c(data):08x}" != entry.crc32c:
        raise CorruptCheckpoint(f"{name} has another crc32c than its manifest says")
    return data


def _tensors(data: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    tensors = members(data, [name.partition("/")[2] for name in names])
    for name, member in zip(names, tensors, strict=True):
        member.check(name)
    return {name: member.value for name, member in zip(names, tensors, strict=True)}


def complete(store: Store) -> list[Checkpoint]:
    """Every checkpoint with a manifest, oldest first."""
    return sorted(_folders(store, with_manifest=True))


def incomplete(store: Store) -> list[Checkpoint]:
    """What died before its manifest was written."""
    return sorted(_folders(store, with_manifest=False) - _folders(store, with_manifest=True))


def attempts(store: Store) -> int:
    """The largest number of an attempt that has begun a checkpoint, complete or not."""
    return max((checkpoint.attempt for checkpoint in _folders(store, with_manifest=False)), default=0)


def remove(store: Store, checkpoint: Checkpoint, on_phase: Callable[[str], None] = lambda phase: None) -> None:
    """Removes the manifest first: a removal that dies half-way (phase `removal`) leaves no checkpoint that looks complete."""
    store.remove(below(checkpoint.folder, MANIFEST))
    on_phase("removal")
    store.remove(checkpoint.folder)


def _folders(store: Store, with_manifest: bool) -> set[Checkpoint]:
    checkpoints = set()
    for name in store.list_names(CHECKPOINTS):
        _, folder, *rest = name.split("/")
        checkpoint = Checkpoint.of_folder(folder)
        if checkpoint and (not with_manifest or rest == [MANIFEST]):
            checkpoints.add(checkpoint)
    return checkpoints
