"""The manifest of packed records: what was packed, and in which files. A stranger may have written it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import NoReturn, TypeGuard

import google_crc32c

from convoy import exits
from convoy.data.images.probe import MAX_PIXELS
from convoy.data.images.view import View
from convoy.outside import Name, name_in, parse_object, printable, read_file

MANIFEST, PLAN = Name("MANIFEST.json"), Name("PACKING.json")  # a folder with the second only is not packed to its end
SCHEMA = 1
MAX_EXAMPLES = 2**40
USUAL_VIEW: dict[str, object] = {"fit": View().fit, "bit_depth": View().bit_depth}  # of a plan that says nothing


class CorruptRecords(Exception):
    """A file that is not as it was packed; the text says which, where and how."""


@dataclasses.dataclass(frozen=True)
class Split:
    """What a split holds."""

    examples: int
    shards: int
    grouped: bool = False


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file as it was packed."""

    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A manifest in which every part is of its type and the files are exactly those of the splits.

    Attributes:
      classes: label -> name.
      shape: (height, width, channels) of every image where pixels are packed; None for image files.
      splits: by name.
      files: of all splits.
      document: as it stands in the file.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int] | None
    splits: dict[str, Split]
    files: dict[Name, Entry]
    document: dict[str, object]

    @property
    def plan(self) -> dict[str, object]:
        """What `convoy data pack` compares before it goes on."""
        plan = self.document["plan"]
        assert isinstance(plan, dict), "parse_manifest has checked it"
        return plan


def packed_view(view: View) -> dict[str, object]:
    """What a plan says of the view by which pixels were packed, where it is not the usual one."""
    says = {"fit": view.fit if view.size else View().fit, "bit_depth": view.bit_depth}
    return {name: value for name, value in says.items() if value != USUAL_VIEW[name]}


def shard_name(split: str, shard: int, shards: int) -> Name:
    return name_in(f"{split}-{shard:05d}-of-{shards:05d}.tfrecord", "a split's name")


def shard_names(split: str, planned: Split) -> list[Name]:
    return [shard_name(split, shard, planned.shards) for shard in range(planned.shards)]


def index_name(split: str) -> Name:
    return name_in(f"{split}.index.npy", "a split's name")


def groups_name(split: str) -> Name:
    return name_in(f"{split}.groups.npy", "a split's name")


def file_names(split: str, planned: Split) -> list[Name]:
    """All files of a split."""
    groups = [groups_name(split)] if planned.grouped else []
    return [index_name(split), *groups, *shard_names(split, planned)]


def read_manifest(path: Path) -> Manifest:
    """The manifest at a path. See parse_manifest; FileNotFoundError if there is none."""
    return parse_manifest(read_file(path), str(path))


def parse_manifest(data: bytes, source: str) -> Manifest:
    """Checks a manifest.

    Raises:
      CorruptRecords: it is not as it was written.
      exits.BadData: it carries the right checksum, and is none that `convoy data pack` writes.
      exits.CannotRun: another version wrote it.
    """
    document = parse_document(data, source)
    plan, files = document.get("plan"), document.get("files")
    if not isinstance(plan, dict) or not isinstance(files, dict):
        _refuse(source, "plan or files are missing")
    if (schema := plan.get("schema")) != SCHEMA:
        raise exits.CannotRun(
            f"{source} was packed in schema {printable(repr(schema)[:40])}, and this version of Convoy reads {SCHEMA}; pack it"
            " anew."
        )
    splits = _splits(plan.get("splits"), source)
    entries = {name_in(name, source): _entry(entry, name, source) for name, entry in files.items()}
    # Before any name is made: a split may claim any number of shards.
    if sum(split.shards + 1 + split.grouped for split in splits.values()) != len(entries):
        _refuse(source, f"its splits do not have the {len(entries):,} files that it names")
    expected = {file for name, split in splits.items() for file in file_names(name, split)}
    if unexpected := sorted(entries.keys() - expected):
        _refuse(source, f"{unexpected[0]!r} is a file of no split")
    return Manifest(_classes(plan.get("classes"), source), _shape(plan.get("shape"), source), splits, entries, document)


def write_document(content: dict[str, object]) -> bytes:
    """A JSON object that carries the crc32c of its own text."""
    return json.dumps({**content, "crc32c": _crc_of(content)}, indent=1).encode()


def parse_document(data: bytes, source: str) -> dict[str, object]:
    """An object of write_document without its crc32c; CorruptRecords if it is not as it was written."""
    try:
        content = parse_object(data, source)
        if content.pop("crc32c", None) == _crc_of(content):
            return content
    except (exits.BadData, RecursionError):
        pass
    raise CorruptRecords(f"{source} is not as it was written")


def _crc_of(content: dict[str, object]) -> str:
    return f"{google_crc32c.value(json.dumps(content).encode()):08x}"


def _splits(splits: object, source: str) -> dict[str, Split]:
    if not isinstance(splits, dict) or not splits:
        _refuse(source, "it has no splits")
    checked = {}
    for name, split in splits.items():
        if "/" in name:
            _refuse(source, f"{name!r} is no name of a split")
        if not isinstance(split, dict):
            _refuse(source, f"the split {name!r} is no object")
        examples, shards = split.get("examples"), split.get("shards")
        if not _is_count(examples, 1, MAX_EXAMPLES) or not _is_count(shards, 1, examples):
            _refuse(source, f"the split {name!r} has {examples!r} examples in {shards!r} shards")
        checked[name] = Split(examples, shards, split.get("grouped") is True)
    return checked


def _entry(entry: object, name: str, source: str) -> Entry:
    size, crc32c = (entry.get("bytes"), entry.get("crc32c")) if isinstance(entry, dict) else (None, None)
    if not _is_count(size, 0, 2**62) or not isinstance(crc32c, str) or not re.fullmatch("[0-9a-f]{8}", crc32c):
        _refuse(source, f"the entry of {name!r} has no bytes and crc32c")
    return Entry(size, crc32c)


def _classes(classes: object, source: str) -> tuple[str, ...]:
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        _refuse(source, "its classes are no list of names")
    return tuple(classes)


def _shape(shape: object, source: str) -> tuple[int, int, int] | None:
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 3 or not all(_is_count(side, 1, MAX_PIXELS) for side in shape):
        _refuse(source, f"{shape!r} is no shape of an image")
    height, width, channels = shape
    if math.prod(shape) > MAX_PIXELS:
        _refuse(source, f"images of {shape!r} are too large")
    return height, width, channels


def _is_count(value: object, low: int, high: int) -> TypeGuard[int]:
    return type(value) is int and low <= value <= high  # True is an int too


def _refuse(source: str, what: str) -> NoReturn:
    raise exits.BadData(
        f"{printable(source)} is no manifest that `convoy data pack` writes: {printable(what[:300])}; do not use it."
    )
