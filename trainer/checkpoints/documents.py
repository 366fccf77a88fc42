"""MANIFEST.json and state.json of a checkpoint, as values that are what they should be, and the names of its objects."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from convoy import exits, outside
from convoy.data.identity import Identity
from convoy.outside import MAX_DOCUMENT_BYTES, Name, below, printable
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import MAX_STEPS
from convoy.trainer.loop.progress import Progress
from convoy.trainer.outputs.records import MAX_ATTEMPTS
from convoy.trainer.run_dir.files import CHECKPOINTS

MANIFEST, STATE = "MANIFEST.json", "state.json"
SCHEMA = 2
_FOLDER = re.compile(r"([0-9]{8,10})\.([0-9]{1,10})")
_KIND = re.compile(r"([a-z_]+)(-[0-9]+-of-[0-9]+)?\.npz")
_CRC32C = re.compile(r"[0-9a-f]{8}")


class CorruptCheckpoint(Exception):
    """A checkpoint cannot be used; the text names the object and the reason.

    `ending` is the error of a command that was asked for this checkpoint.
    """

    ending: type[exits.ConvoyError] = exits.CannotRun

    def __init__(self, text: str):
        super().__init__(printable(text))


class ForeignCheckpoint(CorruptCheckpoint):
    """No disk has damaged it so: its checksums are right, or it is no file, and no run saves such a thing."""

    ending = exits.BadData


@dataclasses.dataclass(frozen=True, order=True)
class Checkpoint:
    """The name of a checkpoint. In order: the newest is the largest."""

    step: int
    attempt: int

    @property
    def folder(self) -> Name:
        return below(CHECKPOINTS, f"{self.step:08d}.{self.attempt}")

    @classmethod
    def of_folder(cls, name: str) -> Checkpoint | None:
        """The checkpoint whose folder has this name; None for any other name."""
        match = _FOLDER.fullmatch(name)
        if not match:
            return None
        checkpoint = cls(int(match[1]), int(match[2]))
        possible = checkpoint.step <= MAX_STEPS and checkpoint.attempt <= MAX_ATTEMPTS
        return checkpoint if possible and checkpoint.folder == f"{CHECKPOINTS}/{name}" else None


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object as the manifest has it. `tensors` are those in it, KIND/PATH, in order."""

    bytes: int
    crc32c: str
    generation: int
    tensors: tuple[str, ...]


def file_names(kind: str, count: int) -> list[str]:
    """What the files are called that hold the tensors of a kind."""
    return [f"{kind}.npz"] if count == 1 else [f"{kind}-{n:05d}-of-{count:05d}.npz" for n in range(1, count + 1)]


def parse_manifest(data: bytes) -> dict[str, Entry]:
    """Object name -> its entry. Names are those that `file_names` makes, and STATE; no tensor is named twice."""
    try:
        manifest = outside.parse_object(data, MANIFEST)
    except exits.BadData as error:
        raise CorruptCheckpoint(f"{MANIFEST} does not read as one") from error
    schema, objects = manifest.get("schema"), manifest.get("objects")
    if not isinstance(objects, dict) or type(schema) is not int:
        raise CorruptCheckpoint(f"{MANIFEST} does not read as one")
    if schema != SCHEMA:
        raise CorruptCheckpoint(f"{MANIFEST} has schema {schema}, this version of Convoy reads {SCHEMA}")
    if STATE not in objects:
        raise CorruptCheckpoint(f"{STATE} is missing")
    _check_names(objects)
    entries = {name: _entry(name, entry) for name, entry in objects.items()}
    counts = Counter(tensor for entry in entries.values() for tensor in entry.tensors)
    for tensor, count in counts.items():
        if count > 1:
            raise ForeignCheckpoint(f"{MANIFEST} names the tensor {tensor} {count} times")
    return entries


def _check_names(objects: Iterable[str]) -> None:
    files = set(objects) - {STATE}
    kinds = Counter(match[1] for name in files if (match := _KIND.fullmatch(name)))
    possible = {name for kind, count in kinds.items() for name in file_names(kind, count)}
    if odd := sorted(files - possible):
        raise ForeignCheckpoint(f"{MANIFEST} names {odd[0][:200]!a}, which no object of a checkpoint is called")


def _entry(name: str, value: Any) -> Entry:
    try:
        size, crc32c, generation = value["bytes"], value["crc32c"], value["generation"]
        tensors = value.get("tensors", []) if name == STATE else value["tensors"]
        kind = name.removesuffix(".npz").partition("-")[0]
        possible = (
            all(type(number) is int and 0 <= number < 1 << 63 for number in (size, generation))
            and (name != STATE or size <= MAX_DOCUMENT_BYTES)
            and _CRC32C.fullmatch(crc32c)
            and all(tensor.startswith(f"{kind}/") for tensor in tensors)
            and isinstance(tensors, list)
        )
    except (KeyError, TypeError, AttributeError):
        possible = False
    if not possible:
        raise ForeignCheckpoint(f"{MANIFEST} does not say of {name} what it has to")
    return Entry(size, crc32c, generation, tuple(tensors))


def parse_state(data: bytes, checkpoint: Checkpoint) -> dict[str, Any]:
    """What is not tensors: a progress that Progress.from_dict takes, at the checkpoint's step, beside what
    Identity.from_dict takes."""
    try:
        state = outside.parse_object(data, STATE)
        progress = Progress.from_dict(state.get("progress"), Clock.steady(1, 1))  # any clock: it is only looked at here
        Identity.from_dict(state, STATE)
    except exits.BadData as error:
        raise ForeignCheckpoint(f"{STATE} cannot be used: {error}".removesuffix(".")) from error
    if progress.step != checkpoint.step:
        raise ForeignCheckpoint(f"{STATE} is one of step {progress.step}")
    return state
