"""The packing itself: shard after shard, each whole or not there, the manifest last. data/records/format.py is the format."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convoy import __version__, exits, terminal
from convoy.data.config import DataConfig
from convoy.data.exclusive import exclusive_lock
from convoy.data.parallel import cores
from convoy.data.records import format
from convoy.data.records.format import Packed
from convoy.data.records.index import PIXELS, RECORD, check_index, read_index
from convoy.data.records.manifest import (
    MANIFEST,
    PLAN,
    SCHEMA,
    CorruptRecords,
    Entry,
    index_name,
    read_manifest,
    shard_name,
)
from convoy.data.records.originals import original
from convoy.data.sources.catalogue import upright
from convoy.data.sources.examples import DataSet, Examples
from convoy.data.sources.files import Files
from convoy.data.sources.opening import open_dataset
from convoy.options import shortened
from convoy.outside import Name

# Images of one shape of up to so many pixels are packed as such: hardly larger than their files, with nothing to decode.
SMALL = 64 * 64
_AT_ONCE = 256  # images in memory
_LOCK = ".lock"


def pack(config: DataConfig, root: Path, shard_bytes: int) -> None:
    """Packs every split of a data set into `root`, or what is missing of it there.

    Raises:
      exits.CannotRun: `root` holds something else, is being packed by another process or cannot be written.
      exits.BadData: an image that cannot be decoded, by name.
    """
    dataset, pixels = _opened(config)
    borders = {name: _borders(_sizes(dataset.split(name), pixels), shard_bytes) for name in dataset.split_names}
    plan = {
        "schema": SCHEMA,
        "dataset": config.dataset,
        "image_size": config.image_size,
        "shard_bytes": shard_bytes,
        "classes": list(dataset.class_names),
        "shape": list(dataset.image_shape) if pixels else None,
        "splits": {name: _split_plan(dataset.split(name), parts) for name, parts in borders.items()},
    }
    busy = f"--out={root}: another process packs there now; wait for it, or choose another directory."
    with exclusive_lock(root, _LOCK, "choose another --out.", busy):
        if _stands(root, plan) and _whole(root):
            print(f"{root} holds all of {dataset.name} already.")
        else:
            format.write_json(root / PLAN, plan)
            files = _pack_splits(dataset, pixels, borders, root)
            versions = {"convoy": __version__, **{name: version(name) for name in ("tensorflow", "pillow")}}
            entries = {name: dataclasses.asdict(entry) for name, entry in files.items()}
            format.write_json(root / MANIFEST, {"plan": plan, "files": entries, "versions": versions})
            total = sum(entry.bytes for entry in files.values())
            print(
                f"{dataset.name} is packed into {len(files)} files, {total / 2**20:,.1f} MiB: --dataset=records:{root}"
            )
        _sweep(root, borders)


def _pack_splits(
    dataset: DataSet, pixels: bool, borders: dict[str, list[tuple[int, int]]], root: Path
) -> dict[Name, Entry]:
    """Every shard and index that is not there yet -> the manifest's entries of all files."""
    files: dict[Name, Entry] = {}
    console = Console(file=terminal.unguarded(sys.stdout))
    columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal, expand=True) as progress,
        ThreadPoolExecutor(cores()) as pool,
    ):
        for split, parts in borders.items():
            before = _read_index(root / index_name(split))  # of all shards, if they were all packed once
            task = progress.add_task(split, total=parts[-1][1])
            index = []
            for shard, (first, last) in enumerate(parts):
                shard_file = shard_name(split, shard, len(parts))
                path = root / shard_file
                indices = (_read_index(_index_of(path)), before[before["shard"] == shard])
                if (found := _found(path, last - first, indices)) is None:
                    part = dataset.split(split).select(np.arange(first, last))
                    images = _pixels(part) if pixels or not isinstance(part, Files) else _files(part, pool)
                    written = format.write_shard(path, shard, progress.track(images, task_id=task))
                    format.write_index(_index_of(path), written)
                    found = written, format.verify_shard(path, written)
                progress.update(task, completed=last)
                index.append(found[0])
                files[shard_file] = found[1]
            name = index_name(split)
            files[name] = format.write_index(root / name, np.concatenate(index))
    return files


def _opened(config: DataConfig) -> tuple[DataSet, bool]:
    """The data set, and whether the pixels of its images are packed, not their files."""
    if config.image_size or not config.dataset_spec.source.holds_files:
        return open_dataset(config), True
    # With any size, images of many sizes are no error.
    dataset = open_dataset(dataclasses.replace(config, image_size=1))
    splits = [dataset.split(name) for name in dataset.split_names]
    shapes = {upright(header) for split in splits if isinstance(split, Files) for header in split.headers}
    if len(shapes) == 1 and math.prod(*shapes) <= SMALL:
        return open_dataset(config), True
    return dataset, False


def _pixels(part: Examples) -> Iterator[Packed]:
    fetch, hashes = part.fetcher(), part.content_hashes()
    for first in range(0, len(part), _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, len(part)))
        try:
            images = np.asarray(fetch(tf.constant(rows), None).images)
        except tf.errors.OpError as error:
            raise exits.BadData(part.explain() or str(error)) from error
        for row, image in zip(rows, images, strict=True):
            yield Packed(image.tobytes(), PIXELS, image.shape, int(part.labels[row]), float(hashes[row]))


def _files(part: Files, pool: ThreadPoolExecutor) -> Iterator[Packed]:
    for first in range(0, len(part), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        yield from pool.map(original, part.paths[rows], part.headers[rows], part.labels[rows].tolist())


def _sizes(examples: Examples, pixels: bool) -> np.ndarray:
    """Bytes of every image, int64 [N]; of files as they are before, so that what a shard holds is known beforehand."""
    if isinstance(examples, Files) and not pixels:
        return examples.headers["size"]
    return np.full(len(examples), math.prod(examples.shape), np.int64)


def _borders(sizes: np.ndarray, shard_bytes: int) -> list[tuple[int, int]]:
    """(first, one past the last) example of every shard."""
    before = np.cumsum(sizes) - sizes
    starts = np.flatnonzero(np.diff(before // shard_bytes, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(sizes)], strict=True))


def _split_plan(examples: Examples, parts: list[tuple[int, int]]) -> dict[str, Any]:
    """What the split is, and a digest by which another one is known: of names, sizes and times of files, else of content."""
    digest = hashlib.blake2b(examples.labels.tobytes(), digest_size=8)
    if isinstance(examples, Files):
        digest.update(b"\0".join(os.fsencode(path) for path in examples.paths))
        digest.update(np.stack([examples.headers["size"], examples.headers["changed"]]).tobytes())
    else:
        digest.update(examples.content_hashes().tobytes())
    return {"examples": len(examples), "shards": len(parts), "source": digest.hexdigest()}


def _found(path: Path, count: int, indices: Iterable[np.ndarray]) -> tuple[np.ndarray, Entry] | None:
    """The records and the manifest's entry of a shard that was packed before; None if it is not whole by any of `indices`."""
    for index in indices:
        with contextlib.suppress(CorruptRecords, OSError):
            if len(index) == count:
                return index, format.verify_shard(path, index)
    return None


def _read_index(path: Path) -> np.ndarray:
    """The records of an index; none if it is not there or damaged."""
    try:
        return read_index(path)
    except CorruptRecords:
        return np.zeros(0, RECORD)


def _whole(root: Path) -> bool:
    """Whether every file that the manifest names is as it was packed. Reads them all."""
    manifest = read_manifest(root / MANIFEST)
    try:
        for split, planned in manifest.splits.items():
            name = index_name(split)
            index = read_index(root / name, manifest.files[name])
            check_index(index, split, manifest)
            for shard in range(planned.shards):
                path = root / shard_name(split, shard, planned.shards)
                format.verify_shard(path, index[index["shard"] == shard])
    except (CorruptRecords, OSError) as error:
        what = f"{error.filename}: {exits.reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"{root} is not whole ({what}); what is damaged or missing is packed anew.")
        return False
    return True


def _index_of(path: Path) -> Path:
    """Of one shard, until that of the split is there."""
    return path.with_suffix(".npy")


def _stands(root: Path, plan: dict[str, Any]) -> bool:
    """Whether `root` holds all that is planned already; CannotRun if it holds something else."""
    for name in (MANIFEST, PLAN):
        try:
            content = format.read_json(root / name)
        except FileNotFoundError:
            continue
        except (CorruptRecords, OSError) as error:
            what = f"{root / name}: {exits.reason(error)}" if isinstance(error, OSError) else str(error)
            raise exits.CannotRun(f"--out={root}: {what}; remove that directory, or choose another.") from error
        there = content.get("plan", content)
        if not isinstance(there, dict):
            raise exits.CannotRun(f"--out={root} holds a {name} that packing did not write; choose another directory.")
        if different := [key for key in plan if there.get(key) != plan[key]]:
            was, now = (shortened(one.get(different[0])) for one in (there, plan))
            raise exits.CannotRun(
                f"--out={root} holds another packing: {different[0]} was {was} and is {now}; choose another directory."
            )
        return name == MANIFEST
    if foreign := [entry.name for entry in os.scandir(root) if entry.name != _LOCK]:
        raise exits.CannotRun(
            f"--out={root} holds {min(foreign)} and no packed records; choose an empty or a new directory."
        )
    return False


def _sweep(root: Path, borders: dict[str, list[tuple[int, int]]]) -> None:
    """Removes what of our own is of no use once the manifest is there."""
    shards = [
        root / shard_name(split, shard, len(parts)) for split, parts in borders.items() for shard in range(len(parts))
    ]
    indices = [*map(_index_of, shards)]
    for path in (root / PLAN, *indices, *map(format.partial_of, (*shards, *indices))):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = exits.reason(error)
            raise exits.CannotRun(f"cannot remove {path}: {reason}; remove it yourself, all else is packed.") from error
