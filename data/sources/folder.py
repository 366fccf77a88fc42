"""A folder of photographs: one folder per class, with or without train, validation and test above them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data.config import DataConfig
from convoy.data.identity import FOLDER, Origin, split_of_files
from convoy.data.images.suffixes import is_image
from convoy.data.images.unreadable import BadImages
from convoy.data.images.walk import (
    HIDDEN,
    LISTED,
    UNLABELLED,
    LeftOut,
    folders_in,
    images_below,
    is_hidden,
    leads_back,
    leads_to_folder,
)
from convoy.data.sources import places
from convoy.data.sources.examples import DataSet
from convoy.data.sources.layout import check_classes, first_few, layout_of
from convoy.data.sources.listed import Listed, open_listed
from convoy.listing import entries_of, listing


def open_folder(config: DataConfig) -> DataSet:
    """PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg with validation/ and test/ beside it; classes in order of name."""
    root, left_out = places.folder(config), LeftOut()
    with listing(root):
        roots, others = layout_of(root)
        if config.test_split == "none":
            roots.pop("test", None)
        class_names = folders_in(roots["train"])
        if len(class_names) < 2:
            raise exits.BadData(_too_few(roots["train"], class_names))
        unlabelled = {
            split for split, place in roots.items() if split != "train" and _is_unlabelled(place, class_names)
        }
        listed = {
            split: _list(split, roots[split], class_names, left_out) for split in roots if split not in unlabelled
        }
        if roots["train"] == root:
            check_classes(root, class_names, listed["train"].paths)
        else:
            _pass_over(root, left_out)
        for split in unlabelled:
            for image in images_below(roots[split], left_out):
                left_out.add(UNLABELLED, image)
    if others:
        print(f"Note: {root} holds splits; left out beside them: {first_few(others)}.")
    if note := left_out.note():
        print(note)
    bad = BadImages(config.bad_images, config.max_bad_fraction)

    def origin(sizes: Mapping[str, np.ndarray]) -> Origin:
        return Origin(
            FOLDER, {split: split_of_files(roots[split], files.paths, sizes[split]) for split, files in listed.items()}
        )

    return open_listed(config, root, listed, class_names, origin, bad, unlabelled=unlabelled)


def _too_few(train: Path, class_names: tuple[str, ...]) -> str:
    folders = counted(len(class_names), "class folder")
    inner = folders_in(train / class_names[0]) if class_names else ()
    hint = f" Perhaps they are those in {train / class_names[0]}: {first_few(inner)}." if len(inner) > 1 else ""
    return f"{train} holds {folders}; a classifier needs at least two folders of images.{hint}"


def _is_unlabelled(root: Path, class_names: tuple[str, ...]) -> bool:
    """Whether a split has images, and no class folders: they lie in it, or in one folder that is no class."""
    folders = folders_in(root)
    labelled = len(folders) > 1 or any(name in class_names for name in folders)
    return not labelled and any(images_below(root, LeftOut()))


def _list(split: str, root: Path, class_names: tuple[str, ...], left_out: LeftOut) -> Listed:
    """Every image in class folders with its label, in order of class and path; BadData for an unknown or empty class folder."""
    folders = set(folders_in(root))
    if unknown := sorted(folders - set(class_names)):
        remedy = "; --test_split=none leaves all of it out" if split == "test" else ""
        raise exits.BadData(
            f"{root} has a class {unknown[0]} that the training folder lacks; its classes are"
            f" {first_few(class_names)}{remedy}."
        )
    _pass_over(root, left_out)
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        if name not in folders:
            continue
        images = list(images_below(root / name, left_out))
        if not images:
            raise exits.BadData(f"the class folder {root / name} holds no image; add images or remove the folder.")
        paths += images
        labels += [label] * len(images)
    return Listed(paths, labels)


def _pass_over(root: Path, left_out: LeftOut) -> None:
    """Notes what stands beside class folders: hidden files, images, links that lead back."""
    for entry in entries_of(root):
        if is_hidden(entry.name):
            left_out.add(HIDDEN, entry.path)
        elif leads_to_folder(entry):
            if entry.is_symlink() and leads_back(entry.path):
                left_out.add(LISTED, entry.path)
        elif is_image(entry):
            left_out.add(UNLABELLED, entry.path)
