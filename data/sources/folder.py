"""A folder of photographs: one folder per class, with or without train, validation and test above them."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import FOLDER, Origin, split_of_files
from convoy.data.images.probe import Kind
from convoy.data.images.unreadable import BadImages
from convoy.data.sources.catalogue import Catalogue, upright
from convoy.data.sources.examples import DataSet, larger_cache
from convoy.data.sources.files import CHANNELS, Files
from convoy.listing import entries_of, files_below, listing

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


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
    bad, size = BadImages(config.bad_images, config.max_bad_fraction), config.image_size
    hashed = ("train",) if config.resolved(roots).eval_split_spec.fraction else ()
    headers, contents = _headers(root, {split: paths for split, (paths, _) in listed.items()}, hashed, size, bad)
    good = headers["train"][headers["train"]["kind"] != Kind.BAD]
    if not len(good):
        bad.check()
        raise exits.BadData(f"none of the {len(headers['train']):,} images of {roots['train']} can be read; mend them.")
    shape = (size, size, CHANNELS) if size else (*upright(good[0]), CHANNELS)

    def reader(split: str) -> Callable[[], Files]:
        def read() -> Files:
            if bad.policy == "fail":  # the others are listed in the run directory first
                bad.check()
            hashes = contents[split] if split in hashed else None
            files = Files(split, *listed[split], headers[split], hashes, shape, size, config.cache_bytes, bad)
            if files.decoded_bytes > config.cache_bytes:
                print(
                    f"Note: the split {split} of folder:{path} takes {files.decoded_bytes / 2**30:.1f} GiB decoded, more"
                    f" than --cache_bytes={config.cache_bytes}: it is decoded as it is drawn."
                )
            return files

        return read

    parts = {split: split_of_files(roots[split], listed[split][0], headers[split]["size"]) for split in roots}
    origin = Origin(FOLDER, parts)
    return DataSet(f"folder:{path}", class_names, shape, {split: reader(split) for split in roots}, bad, origin)


def remedies(config: DataConfig) -> list[str]:
    """What makes reading from a folder faster."""
    pack = f"`convoy data pack --dataset={shlex.quote(config.dataset)} --out=DIR` and --dataset=records:DIR"
    # Random parts of files are decoded as they are drawn, however much memory there is.
    return [pack] if config.recipe.min_area else [pack, larger_cache(config)]


def _headers(
    root: Path, paths: dict[str, list[str]], hashed: Collection[str], size: int, bad: BadImages
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The headers of each split, ENTRY [N], and the content hashes of splits that are to be `hashed`, float64 [N].

    Images that cannot be used get Kind.BAD, and their reasons are added to `bad`.
    """
    wanted = itertools.chain.from_iterable([split in hashed] * len(files) for split, files in paths.items())
    catalogue = Catalogue.scan(root, list(itertools.chain.from_iterable(paths.values())), list(wanted))
    first = next((upright(entry) for entry in catalogue.entries if entry["kind"] != Kind.BAD), (0, 0))
    headers, contents, start = dict[str, np.ndarray](), dict[str, np.ndarray](), 0
    for split, files in paths.items():
        part = slice(start, start + len(files))
        headers[split], contents[split] = entries, _ = catalogue.entries[part], catalogue.contents[part]
        start += len(files)
        bad.expect(split, len(files))
        for row, (path, entry) in enumerate(zip(files, entries, strict=True)):
            reason = catalogue.reasons.get(path, "")
            height, width = upright(entry)
            if not reason and not size and (height, width) != first:
                reason = (
                    f"is {width}x{height} pixels, the first image {first[1]}x{first[0]} (--image_size=PIXELS brings all to"
                    " one size)"
                )
                entries[row]["kind"] = Kind.BAD
            if reason:
                bad.add(split, path, reason)
    return headers, contents


def _split_folders(root: Path) -> dict[str, Path]:
    """Split -> its folder. A folder called train is a split if it has class folders, and a class like any other if not."""
    folders = _folders(root)
    if "train" not in folders or not _folders(root / "train"):
        return {"train": root}
    roots = {}
    for split, aliases in _SPLITS.items():
        present = [root / alias for alias in aliases if alias in folders]
        if len(present) > 1:
            raise exits.BadData(f"{present[0]} and {present[1]} are both {split} splits; remove or merge one.")
        if present:
            roots[split] = present[0]
    return roots


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries_of(root) if not entry.name.startswith(".") and entry.is_dir()))


def _list(root: Path, class_names: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """Every image below root with its label, in order of class and path; BadData for an unknown or an empty class folder."""
    folders = set(_folders(root))
    if unknown := sorted(folders - set(class_names)):
        raise exits.BadData(
            f"{root} has a class {unknown[0]} that the training folder lacks; its classes are {_first_few(class_names)}."
        )
    paths: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for label, name in enumerate(class_names):
        if name not in folders:
            continue
        images = []
        for entry in files_below(root / name):
            if entry.name.lower().endswith(SUFFIXES) and not (entry.is_symlink() and _leads_to_folder(entry)):
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
    return paths, labels


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a link's end is a folder, which is not followed; one to nowhere or to itself is an image that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _first_few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
