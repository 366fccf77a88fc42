"""A folder of photographs: one folder per class, with or without train, validation and test above them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import FOLDER, Origin, split_of_files
from convoy.data.images.listing import SUFFIXES, is_image
from convoy.data.images.unreadable import BadImages
from convoy.data.sources.examples import DataSet
from convoy.data.sources.listed import SPLITS, Listed, first_few, open_listed
from convoy.listing import entries_of, files_below, listing


def open_folder(config: DataConfig) -> DataSet:
    """PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg with validation/ and test/ beside it; classes in order of name."""
    path = str(config.dataset_spec.value)
    root = Path(os.path.expanduser(path))  # noqa: PTH111 - which leaves ~nobody as it is, where a Path raises
    with listing(root):
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise exits.CannotRun(
                f"--dataset=folder:{path}: {root} {what}; give a folder with one folder of images per class."
            )
        roots = _split_folders(root)
        class_names = _folders(roots["train"])
        if len(class_names) < 2:
            raise exits.BadData(
                f"{roots['train']} holds {len(class_names)} class folders; a classifier needs at least two folders of"
                " images."
            )
        listed = {name: _list(split_root, class_names) for name, split_root in roots.items()}
    bad = BadImages(config.bad_images, config.max_bad_fraction)

    def origin(sizes: Mapping[str, np.ndarray]) -> Origin:
        return Origin(
            FOLDER, {split: split_of_files(roots[split], listed[split].paths, sizes[split]) for split in roots}
        )

    return open_listed(config, root, listed, class_names, origin, bad)


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder. A folder called train is a split if it has class folders, and a class like any other if not."""
    folders = _folders(root)
    if "train" not in folders or not _folders(root / "train"):
        return {"train": root}
    roots = {}
    for split, aliases in SPLITS.items():
        present = [root / alias for alias in aliases if alias in folders]
        if len(present) > 1:
            raise exits.BadData(f"{present[0]} and {present[1]} are both {split} splits; remove or merge one.")
        if present:
            roots[split] = present[0]
    return roots


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries_of(root) if not entry.name.startswith(".") and entry.is_dir()))


def _list(root: Path, class_names: tuple[str, ...]) -> Listed:
    """Every image below root with its label, in order of class and path; BadData for an unknown or an empty class folder."""
    folders = set(_folders(root))
    if unknown := sorted(folders - set(class_names)):
        raise exits.BadData(
            f"{root} has a class {unknown[0]} that the training folder lacks; its classes are {first_few(class_names)}."
        )
    paths: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for label, name in enumerate(class_names):
        if name not in folders:
            continue
        images = []
        for entry in files_below(root / name):
            if is_image(entry):
                images.append(entry.path)
            elif not entry.name.startswith("."):
                left_out.append(entry.path)
        if not images:
            raise exits.BadData(
                f"the class folder {root / name} holds no image ({', '.join(SUFFIXES)}); add images or remove the folder."
            )
        paths += sorted(images)
        labels += [label] * len(images)
    if left_out:
        print(
            f"Note: {len(left_out)} files below {root} are not images and are left out, the first is {min(left_out)!r}."
        )
    return Listed(paths, labels)
