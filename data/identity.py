"""The identity of a data set, wherever it lies: a run is continued on the data set on which it was begun.

A path does not tell. Class names do, the number of examples in every split, and a digest: of the names and sizes of image
files, or of the checksums of packed ones. No image is read for it. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeGuard

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.outside import printable

FOLDER, CSV, RECORDS = (
    "folder",
    "csv",
    "records",
)  # data sets that may lie anywhere; the others are known by name and version
_SHOWN = 3  # of class names in a sentence


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of a split, in their order."""

    examples: int
    digest: str = ""  # none where name and version are enough


@dataclasses.dataclass(frozen=True)
class Origin:
    """The source of examples, without its place.

    Attributes:
      source: FOLDER, CSV, RECORDS, or name and version of a data set.
      splits: by name; empty where `source` is enough.
    """

    source: str
    splits: Mapping[str, Split] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The data on which a run is begun.

    Attributes:
      examples: the number of training examples.
      classes: label -> name.
      origin: unknown of runs from before Convoy kept it.
    """

    examples: int
    classes: tuple[str, ...]
    origin: Origin | None

    def to_dict(self) -> dict[str, object]:
        values: dict[str, object] = {"examples": self.examples, "classes": list(self.classes)}
        return values | ({"data": dataclasses.asdict(self.origin)} if self.origin else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, object], place: str) -> Identity:
        """The inverse of to_dict, for a document found at `place`; BadData for an impossible one. Other keys are ignored."""
        examples, classes, data = values.get("examples"), values.get("classes"), values.get("data")
        if not _is_count(examples) or not _are_texts(classes):
            _refuse(place)
        return cls(examples, tuple(classes), None if data is None else _origin(data, place))

    def differences(self, then: Identity) -> list[str]:
        """The differences between this data set and the one of `then`, a clause each; empty if it is the same.

        A split that was added since is no difference: nothing was learned or chosen with it.
        """
        clauses = _of_classes(then.classes, self.classes)
        if then.origin and self.origin:
            clauses += _of_origins(then.origin, self.origin)
        if not clauses and then.examples != self.examples:
            clauses.append(f"it had {counted(then.examples, 'example')} to train on and has {self.examples:,}")
        return clauses


def prefix(root: Path) -> str:
    """What stands in a path before the name of a file below a folder."""
    # Nothing in `.`, and of `/` no separator follows.
    return "" if root == Path() else os.path.join(root, "")  # noqa: PTH118


def split_of_files(root: Path, paths: Sequence[str], sizes: np.ndarray) -> Split:
    """A split of image files below a folder: their names there, and their sizes, int64 [N]."""
    before = len(prefix(root))
    digest = hashlib.blake2b(np.ascontiguousarray(sizes, "<i8").tobytes(), digest_size=16)
    digest.update(b"\0".join([os.fsencode(path[before:]) for path in paths]))  # a name need not be valid UTF-8
    return Split(len(paths), digest.hexdigest())


def split_of_rows(
    root: Path, paths: Sequence[str], sizes: np.ndarray, labels: Sequence[int], groups: Sequence[str]
) -> Split:
    """A split of a CSV: its files, as split_of_files has them, each with its class and, if the CSV says it, its group."""
    files = split_of_files(root, paths, sizes)
    digest = hashlib.blake2b(f"{files.digest}\0".encode(), digest_size=16)
    digest.update(np.array(labels, "<i4").tobytes())
    digest.update("\0".join(groups).encode())
    return Split(files.examples, digest.hexdigest())


def split_of_records(examples: int, files: Iterable[tuple[str, int, str]]) -> Split:
    """A split of packed records: (name, bytes, crc32c) of its files, one of which has the checksum of every record."""
    text = "\n".join(f"{name} {size} {crc32c}" for name, size, crc32c in files)
    return Split(examples, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def _of_classes(then: tuple[str, ...], now: tuple[str, ...]) -> list[str]:
    if then == now:
        return []
    removed, added = ([name for name in these if name not in set(those)] for these, those in ((then, now), (now, then)))
    if not removed and not added:
        return ["its classes are in another order"]
    words = ((removed, "it has no", "any more"), (added, "it had no", "before"))
    return [f"{begin} class {_listed(names)} {end}" for names, begin, end in words if names]


def _of_origins(then: Origin, now: Origin) -> list[str]:
    if then.source != now.source:
        return [f"it was {printable(then.source)} and is {printable(now.source)}"]
    clauses = []
    for name, before in then.splits.items():
        split, after = f"the split {printable(name)}", now.splits.get(name)
        if after is None:
            clauses.append(f"{split} is no longer there")
        elif before.examples != after.examples:
            clauses.append(f"{split} had {counted(before.examples, 'example')} and has {after.examples:,}")
        elif before.digest != after.digest:
            files = f"some of the {counted(before.examples, 'file')} of {split} have other names"
            changes = {FOLDER: f"{files} or sizes", CSV: f"{files}, sizes, labels or groups"}
            clauses.append(changes.get(now.source, f"{split} was packed from other images, or in another way"))
    return clauses


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name) for name in names[:_SHOWN]) + more


def _origin(values: object, place: str) -> Origin:
    source, splits = (values.get("source"), values.get("splits")) if isinstance(values, dict) else (None, None)
    if not isinstance(source, str) or not isinstance(splits, dict):
        _refuse(place)
    return Origin(source, {name: _split(split, place) for name, split in splits.items()})


def _split(values: object, place: str) -> Split:
    examples, digest = (values.get("examples"), values.get("digest")) if isinstance(values, dict) else (None, None)
    if not _is_count(examples) or not isinstance(digest, str):
        _refuse(place)
    return Split(examples, digest)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0  # True is an int too


def _are_texts(values: object) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _refuse(place: str) -> NoReturn:
    raise exits.BadData(f"{printable(place)} does not say what data the run was begun on; restore it from a copy.")
