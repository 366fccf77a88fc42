"""Which folders in a folder of photographs are splits, and which are classes. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from convoy import exits
from convoy.data.images.walk import folders_in
from convoy.outside import printable

# Split -> the names that people give it, in any case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {alias: split for split, aliases in SPLITS.items() for alias in aliases}
_COLLECTION = re.compile("(set|data|images)$")
_SHOWN = 8  # names in a sentence


class Layout(NamedTuple):
    """Where the splits of a folder are.

    Attributes:
      splits: split -> its folder, which holds one folder per class.
      others: the names of the folders beside these.
    """

    splits: dict[str, Path]
    others: tuple[str, ...] = ()


def split_of(name: str) -> str:
    """The split that a name stands for; "" for another name."""
    return _SPLIT_OF.get(name.lower(), "")


def first_few(names: Sequence[str]) -> str:
    """Names for a sentence: eight of them, and how many more there are."""
    shown = ", ".join(map(printable, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def layout_of(root: Path) -> Layout:
    """The splits of a folder, by the names in it; all of it is for training where no name says otherwise.

    A folder called train without folders in it is a class like any other, unless another folder has the name of a split.

    Raises:
      OSError: a folder cannot be listed.
      exits.BadData: there are two folders for a split, or none for training.
    """
    names = folders_in(root)
    named = _by_split(names, split_of)
    if train := named.get("train"):
        if len(named) > 1 or any(folders_in(root / name) for name in train):
            return _layout(root, names, named)
    elif len(named) > 1 and all(map(split_of, names)):
        raise exits.BadData(f"{root} holds splits, {first_few(names)}, and none to train on; add a folder train.")
    worded = _by_split(names, _split_within)
    training = worded.pop("train", [])
    if len(training) == 1 and worded:
        classes = _classes(root / training[0])
        if len(classes) > 1 and all(
            _classes(root / name) <= classes for present in worded.values() for name in present
        ):
            return _layout(root, names, {"train": training, **worded})
    return Layout({"train": root})


def check_classes(root: Path, class_names: Sequence[str], paths: Iterable[str]) -> None:
    """BadData if the folders that seem to be classes are splits, or hold splits, by the training images in them.

    They seem to be splits where all of them hold the same folders, two at least, and no image beside these.
    """
    inner: dict[str, set[str]] = {name: set() for name in class_names}
    before = len(str(root / "x")) - 1
    for path in paths:
        name, folder, *deeper = path[before:].split("/", 2)
        if not deeper:
            return
        inner[name].add(folder)
    shared = sorted(set[str]().union(*inner.values()))
    if len(shared) < 2:
        return
    outer, shown = first_few(class_names), first_few(shared)
    if all(map(split_of, shared)):
        raise exits.BadData(
            f"the class folders of {root} hold splits, {shown}; put the classes into the splits, as in"
            f" {shared[0]}/{printable(class_names[0])}."
        )
    if all(len(folders) == len(shared) for folders in inner.values()):
        raise exits.BadData(
            f"the folders of {root}, {outer}, all hold the same folders, {shown}, and look like splits; call them train,"
            f" validation and test, or, if {outer} are the classes, put them into a folder train."
        )


def _layout(root: Path, names: Sequence[str], named: Mapping[str, Sequence[str]]) -> Layout:
    for split, (first, *others) in named.items():
        if others:
            raise exits.BadData(f"{root / first} and {root / others[0]} are both {split} splits; remove or merge one.")
    train = _unwrapped(root / named["train"][0])
    classes = folders_in(train)
    if not classes:
        raise exits.BadData(
            f"{train} holds no folders, so nothing says what its images show; make one for each class in it, or list files and"
            " labels in a table and give --dataset=csv:FILE."
        )
    splits = {
        split: _unwrapped(root / named[split][0], classes) for split in SPLITS if split in named and split != "train"
    }
    used = {name for present in named.values() for name in present}
    return Layout({"train": train, **splits}, tuple(name for name in names if name not in used))


def _by_split(names: Iterable[str], meaning: Callable[[str], str]) -> dict[str, list[str]]:
    """Split -> the names that mean it, those in the order of SPLITS first."""
    named: dict[str, list[str]] = {}
    for name in names:
        if split := meaning(name):
            named.setdefault(split, []).append(name)
    ranks = [alias for aliases in SPLITS.values() for alias in aliases]
    for present in named.values():
        present.sort(key=lambda name: ranks.index(name.lower()) if split_of(name) else len(ranks))
    return named


def _split_within(name: str) -> str:
    """The split that a word of a name stands for: seg_train, Test Images; "" if none does, or words for two."""
    splits = {split_of(_COLLECTION.sub("", word)) for word in re.findall("[a-z]+", name.lower())} - {""}
    return splits.pop() if len(splits) == 1 else ""


def _classes(folder: Path) -> set[str]:
    return set(folders_in(_unwrapped(folder)))


def _unwrapped(folder: Path, classes: Sequence[str] = ()) -> Path:
    """A folder, or the only one in it if that has its name, as archives unpack (train/train), and is no class."""
    while folders_in(folder) == (folder.name,) and folder.name not in classes:
        folder = folder / folder.name
    return folder
