"""Packing: shard after shard, each complete or absent, the manifest last. data/records/format.py is the format."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
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
from convoy.counting import counted
from convoy.data.config import DataConfig
from convoy.data.exclusive import exclusive_lock
from convoy.data.parallel import cores
from convoy.data.records import format
from convoy.data.records.format import Packed
from convoy.data.records.index import GROUP, PIXELS, RECORD, check_index, read_groups, read_index
from convoy.data.records.manifest import (
    MANIFEST,
    PLAN,
    SCHEMA,
    USUAL_VIEW,
    CorruptRecords,
    Entry,
    groups_name,
    index_name,
    packed_view,
    read_manifest,
    shard_name,
)
from convoy.data.records.originals import original
from convoy.data.records.sending import Sending, sending
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


def pack(config: DataConfig, root: Path, shard_bytes: int, url: str = "") -> None:
    """Packs every split of a data set into `root`, or the part of it that is missing there.

    Args:
      config: the data set.
      root: the folder to fill.
      shard_bytes: of images, in a shard.
      url: a bucket; each file goes there once it is whole, and `root` holds a shard at a time.

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
        "splits": {
            name: _split_plan(dataset.split(name), dataset.groups.get(name), parts) for name, parts in borders.items()
        },
        **packed_view(config.view),
    }
    busy = f"--out={root}: another process packs there now; wait for it, or choose another directory."
    place = sending(url, root, plan) if url else contextlib.nullcontext()
    with exclusive_lock(root, _LOCK, "choose another --out.", busy), place as bucket:
        if (not url and _has_manifest(root, plan) and _whole(root)) or (url and bucket is None):
            print(f"{url or root} holds all of {dataset.name} already.")
        else:
            format.write_json(root / PLAN, plan)
            files = _pack_splits(dataset, pixels, borders, root, bucket)
            versions = {"convoy": __version__, **{name: version(name) for name in ("tensorflow", "pillow")}}
            entries = {name: dataclasses.asdict(entry) for name, entry in files.items()}
            format.write_json(root / MANIFEST, {"plan": plan, "files": entries, "versions": versions})
            if bucket:
                bucket.finish((root / MANIFEST).read_bytes())
                (root / MANIFEST).unlink()
            total = sum(entry.bytes for entry in files.values())
            print(
                f"{dataset.name} is packed into {counted(len(files), 'file')}, {total / 2**20:,.1f} MiB:"
                f" --dataset=records:{url or root}"
            )
        _remove_leftovers(root, borders)


def _pack_splits(
    dataset: DataSet, pixels: bool, borders: dict[str, list[tuple[int, int]]], root: Path, bucket: Sending | None
) -> dict[Name, Entry]:
    """Writes every shard and index that is missing, sends it to a bucket, and returns the manifest's entries of all files."""

    def send(name: Name, entry: Entry) -> Entry:
        if bucket:
            bucket.put(name, entry)
        return entry

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
                packed = _packed_before(path, last - first, indices)
                if bucket and (entry := bucket.entry(shard_file)) and len(indices[0]) == last - first:
                    packed = indices[0], entry
                if packed is None:
                    part = dataset.split(split).select(np.arange(first, last))
                    images = _pixels(part) if pixels or not isinstance(part, Files) else _files(part, pool)
                    written = format.write_shard(path, shard, progress.track(images, task_id=task))
                    format.write_index(_index_of(path), written)
                    packed = written, format.verify_shard(path, written)
                progress.update(task, completed=last)
                index.append(packed[0])
                files[shard_file] = send(shard_file, packed[1])
            arrays = {index_name(split): np.concatenate(index)}
            if (groups := dataset.groups.get(split)) is not None:
                arrays[groups_name(split)] = groups.astype(GROUP)
            for name, array in arrays.items():
                files[name] = send(name, format.write_index(root / name, array))
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
        with contextlib.redirect_stdout(io.StringIO()):  # it has nothing else to note
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
    depth = itertools.repeat(part.view.bit_depth)
    for first in range(0, len(part), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        yield from pool.map(original, part.paths[rows], part.headers[rows], part.labels[rows].tolist(), depth)


def _sizes(examples: Examples, pixels: bool) -> np.ndarray:
    """Bytes of every image, int64 [N]; of files before packing, so that the shards are known beforehand."""
    if isinstance(examples, Files) and not pixels:
        return examples.headers["size"]
    return np.full(len(examples), math.prod(examples.shape), np.int64)


def _borders(sizes: np.ndarray, shard_bytes: int) -> list[tuple[int, int]]:
    """(first, one past the last) example of every shard."""
    before = np.cumsum(sizes) - sizes
    starts = np.flatnonzero(np.diff(before // shard_bytes, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(sizes)], strict=True))


def _split_plan(examples: Examples, groups: np.ndarray | None, parts: list[tuple[int, int]]) -> dict[str, Any]:
    """A description of the split, with a digest of the names, sizes and times of its files, else of its content."""
    digest = hashlib.blake2b(examples.labels.tobytes(), digest_size=8)
    if isinstance(examples, Files):
        digest.update(b"\0".join(os.fsencode(path) for path in examples.paths))
        digest.update(np.stack([examples.headers["size"], examples.headers["changed"]]).tobytes())
    else:
        digest.update(examples.content_hashes().tobytes())
    plan: dict[str, Any] = {"examples": len(examples), "shards": len(parts)}
    if groups is not None:
        digest.update(groups.tobytes())
        plan["grouped"] = True
    return {**plan, "source": digest.hexdigest()}


def _packed_before(path: Path, count: int, indices: Iterable[np.ndarray]) -> tuple[np.ndarray, Entry] | None:
    """The records and the manifest's entry of a shard that was packed before; None if none of `indices` describes it."""
    for index in indices:
        with contextlib.suppress(CorruptRecords, OSError):
            if len(index) == count:
                return index, format.verify_shard(path, index)
    return None


def _read_index(path: Path) -> np.ndarray:
    """The records of an index; no records if it is missing or corrupt."""
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
            if planned.grouped:
                read_groups(root / groups_name(split), planned.examples, manifest.files[groups_name(split)])
            for shard in range(planned.shards):
                path = root / shard_name(split, shard, planned.shards)
                format.verify_shard(path, index[index["shard"] == shard])
    except (CorruptRecords, OSError) as error:
        what = f"{error.filename}: {exits.reason(error)}" if isinstance(error, OSError) else str(error)
        print(f"{root} is not whole ({what}); what is damaged or missing is packed anew.")
        return False
    return True


def _index_of(path: Path) -> Path:
    """The index of one shard, which stays until that of the split is written."""
    return path.with_suffix(".npy")


def _has_manifest(root: Path, plan: dict[str, Any]) -> bool:
    """Whether `root` has a manifest of this plan; CannotRun if it holds something else."""
    for name in (MANIFEST, PLAN):
        try:
            content = format.read_json(root / name)
        except FileNotFoundError:
            continue
        except (CorruptRecords, OSError) as error:
            what = f"{root / name}: {exits.reason(error)}" if isinstance(error, OSError) else str(error)
            raise exits.CannotRun(f"--out={root}: {what}; remove that directory, or choose another.") from error
        earlier = content.get("plan", content)
        if not isinstance(earlier, dict):
            raise exits.CannotRun(f"--out={root} holds a {name} that packing did not write; choose another directory.")
        before, now = ({**USUAL_VIEW, **packing} for packing in (earlier, plan))
        if different := [key for key in now if before.get(key) != now[key]]:
            was, is_now = (shortened(packing.get(different[0])) for packing in (before, now))
            raise exits.CannotRun(
                f"--out={root} holds another packing: {different[0]} was {was} and is {is_now}; choose another directory."
            )
        return name == MANIFEST
    if others := [entry.name for entry in os.scandir(root) if entry.name != _LOCK]:
        raise exits.CannotRun(
            f"--out={root} holds {min(others)} and no packed records; choose an empty or a new directory."
        )
    return False


def _remove_leftovers(root: Path, borders: dict[str, list[tuple[int, int]]]) -> None:
    """Removes our own files that are of no use once the manifest is written."""
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
