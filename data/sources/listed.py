"""Image files that a folder or a CSV lists, by split, become a data set."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data import groups
from convoy.data.config import DataConfig
from convoy.data.identity import Origin, prefix
from convoy.data.images.decoders import CHANNELS
from convoy.data.images.depth import note_unused_bits
from convoy.data.images.probe import Kind
from convoy.data.images.unreadable import BadImages
from convoy.data.images.view import DEEP
from convoy.data.sources.catalogue import Catalogue, upright
from convoy.data.sources.examples import DataSet, larger_cache
from convoy.data.sources.files import Files


@dataclasses.dataclass(frozen=True)
class Listed:
    """The image files of a split.

    Attributes:
      paths: of N files.
      labels: a class index each.
      groups: the name of each one's group, where the list says them.
    """

    paths: list[str]
    labels: list[int]
    groups: list[str] | None = None


def open_listed(
    config: DataConfig,
    root: Path,
    lists: Mapping[str, Listed],
    class_names: tuple[str, ...],
    origin: Callable[[Mapping[str, np.ndarray]], Origin],
    bad: BadImages,
    place: Path | None = None,
    unlabelled: Collection[str] = (),
) -> DataSet:
    """Reads the headers of all files, in the user's cache where they are known.

    Args:
      config: what was opened.
      root: the folder above all files.
      lists: by split.
      class_names: of the labels.
      origin: by what the data set is known, of the bytes of each split's files, int64 [N].
      bad: what to do about files that cannot be read.
      place: by what its headers are known in the cache; the root without it.
      unlabelled: splits that have images, and no labels for them.

    Raises:
      exits.BadData: no training image can be read, or a group stands in two splits.
    """
    grouped, size = _groups(config, root, lists), config.image_size
    hashed = ("train",) if config.resolved(lists).eval_split_spec.fraction and not grouped else ()
    headers, contents = _headers(root, lists, hashed, size, bad, place or root)
    good = headers["train"][headers["train"]["kind"] != Kind.BAD]
    if not len(good):
        bad.check()
        raise exits.BadData(
            f"none of the {counted(len(headers['train']), 'training image')} of {config.dataset} can be read; mend them."
        )
    if config.bit_depth == DEEP:
        readable = (headers["train"]["kind"] == Kind.PNG).tolist()
        note_unused_bits(config.dataset, list(itertools.compress(lists["train"].paths, readable)))
    shape = (size, size, CHANNELS) if size else (*upright(good[0]), CHANNELS)

    def reader(split: str) -> Callable[[], Files]:
        def read() -> Files:
            if bad.policy == "fail":  # the others are listed in the run directory first
                bad.check()
            hashes = contents[split] if split in hashed else None
            how = (shape, config.view, config.cache_bytes, bad)
            files = Files(split, lists[split].paths, lists[split].labels, headers[split], hashes, *how)
            if files.decoded_bytes > config.cache_bytes:
                print(
                    f"Note: the split {split} of {config.dataset} takes {files.decoded_bytes / 2**30:.1f} GiB decoded, more"
                    f" than --cache_bytes={config.cache_bytes}: it is decoded as it is drawn."
                )
            return files

        return read

    identified = origin({split: entries["size"] for split, entries in headers.items()})
    readers = {split: reader(split) for split in lists}
    return DataSet(config.dataset, class_names, shape, readers, bad, identified, grouped, unlabelled)


def remedies(config: DataConfig) -> list[str]:
    """What makes reading single files faster."""
    pack = f"`convoy data pack --dataset={shlex.quote(config.dataset)} --out=DIR` and --dataset=records:DIR"
    # Random parts of files are decoded as they are drawn, however much memory there is.
    return [pack] if config.recipe.min_area else [pack, larger_cache(config)]


def _groups(config: DataConfig, root: Path, lists: Mapping[str, Listed]) -> dict[str, np.ndarray]:
    """The groups of each split's files as numbers, float64 [N]; empty where nothing says any."""
    start = len(prefix(root))
    if config.group:
        names = {split: [path[start:] for path in listed.paths] for split, listed in lists.items()}
        grouped = {split: groups.of_names(files, config.group) for split, files in names.items()}
    else:
        grouped = {split: listed.groups for split, listed in lists.items() if listed.groups is not None}
    groups.check_sides(grouped, {split: listed.paths for split, listed in lists.items()})
    return {split: groups.numbered(members) for split, members in grouped.items()}


def _headers(
    root: Path, lists: Mapping[str, Listed], hashed: Collection[str], size: int, bad: BadImages, place: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The headers of each split, ENTRY [N], and the content hashes of splits that are to be `hashed`, float64 [N].

    Images that cannot be used get Kind.BAD, and their reasons are added to `bad`.
    """
    wanted = itertools.chain.from_iterable([split in hashed] * len(listed.paths) for split, listed in lists.items())
    paths = list(itertools.chain.from_iterable(listed.paths for listed in lists.values()))
    catalogue = Catalogue.scan(root, paths, list(wanted), place)
    first = next((upright(entry) for entry in catalogue.entries if entry["kind"] != Kind.BAD), (0, 0))
    headers, contents, start = dict[str, np.ndarray](), dict[str, np.ndarray](), 0
    for split, listed in lists.items():
        part = slice(start, start + len(listed.paths))
        headers[split], contents[split] = entries, _ = catalogue.entries[part], catalogue.contents[part]
        start += len(listed.paths)
        bad.expect(split, len(listed.paths))
        for row, (path, entry) in enumerate(zip(listed.paths, entries, strict=True)):
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
