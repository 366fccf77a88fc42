"""Packed records (`convoy data pack`): pixels, or image files, read by their places in few large files."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import RECORDS, Origin, split_of_records
from convoy.data.images.decoders import CHANNELS
from convoy.data.images.unreadable import BadImages
from convoy.data.records.caches import is_remote
from convoy.data.records.format import Shards
from convoy.data.records.index import check_index, read_groups, read_index
from convoy.data.records.manifest import (
    MANIFEST,
    PLAN,
    USUAL_VIEW,
    CorruptRecords,
    Manifest,
    file_names,
    groups_name,
    index_name,
    read_manifest,
    shard_names,
)
from convoy.data.records.mirror import mirrored
from convoy.data.records.streamed import Source, StreamedShards
from convoy.data.sources.examples import DataSet, larger_cache
from convoy.data.sources.packed import REMEDY, PackedFiles, PackedPixels
from convoy.options import impossible, shortened
from convoy.store import open_store


def open_records(config: DataConfig) -> DataSet:
    """DIR as `convoy data pack` left it: the examples of what was packed, in its order and splits."""
    path = str(config.dataset_spec.value)
    here = Path(os.path.expanduser(path))  # noqa: PTH111 - which leaves an unknown ~user as it is, where a Path raises
    root = mirrored(path, config.data_dir, shards=not streams(config)) if is_remote(path) else here
    manifest = _manifest(root, path)
    source = Source(open_store(path), root, int(config.cache_gb * 2**30)) if streams(config) else None
    # To decode a split into memory is to read all of it before the first step.
    cache_bytes = 0 if source else config.cache_bytes
    _check_view(config, manifest, path)
    size = config.image_size
    bad = BadImages(config.bad_images, config.max_bad_fraction, named="", remedy=REMEDY)

    @functools.cache
    def shards(split: str) -> Shards | StreamedShards:
        bad.expect(split, manifest.splits[split].examples)
        return _open_shards(root, split, manifest, source)

    height, width, channels = manifest.shape or (
        *_one_size([shards(name) for name in manifest.splits], size, path),
        CHANNELS,
    )
    shape = (size or height, size or width, channels)

    def reader(split: str) -> Callable[[], PackedPixels | PackedFiles]:
        def read() -> PackedPixels | PackedFiles:
            kind = PackedPixels if manifest.shape else PackedFiles
            rows = np.arange(len(shards(split).index))
            examples = kind(split, shards(split), rows, shape, config.view, cache_bytes, bad)
            if examples.decoded_bytes > cache_bytes and not source:
                print(
                    f"Note: the split {split} of records:{path} takes {examples.decoded_bytes / 2**30:.1f} GiB decoded, more"
                    f" than --cache_bytes={config.cache_bytes}: it is read as it is drawn."
                )
            return examples

        return read

    splits = {split: reader(split) for split in manifest.splits}
    groups = {split: _groups(root, split, manifest) for split, planned in manifest.splits.items() if planned.grouped}
    return DataSet(f"records:{path}", manifest.classes, shape, splits, bad, _origin(manifest), groups)


def remedies(config: DataConfig) -> list[str]:
    """What makes reading from records faster."""
    if streams(config):
        return ["records of fewer bytes (`convoy data pack --image_size=`)", "a faster way to the bucket"]
    return [larger_cache(config)]


def streams(config: DataConfig) -> bool:
    """Whether records stay in a bucket, and come while a run goes on."""
    return is_remote(str(config.dataset_spec.value)) and config.order_spec.block > 0


def _check_view(config: DataConfig, manifest: Manifest, path: str) -> None:
    """CannotRun unless the flags say how the records were packed: files that the model is used on are shown as they say."""
    packed = {**USUAL_VIEW, **manifest.plan}
    for flag in ("fit", "bit_depth") if manifest.plan.get("image_size") else ("bit_depth",):
        if (value := getattr(config, flag)) != packed[flag]:
            remedy = (
                f"records:{path} were packed with --{flag}={shortened(packed[flag])}; give that, or pack anew with this"
            )
            raise impossible(flag, value, remedy)


def _origin(manifest: Manifest) -> Origin:
    splits = {}
    for split, planned in manifest.splits.items():
        entries = [(name, manifest.files[name]) for name in file_names(split, planned)]
        files = ((name, entry.bytes, entry.crc32c) for name, entry in entries)
        splits[split] = split_of_records(planned.examples, files)
    return Origin(RECORDS, splits)


def _one_size(splits: list[Shards | StreamedShards], size: int, path: str) -> tuple[int, int]:
    """(height, width) of all images; CannotRun if they differ and are brought to no `size`."""
    sizes = np.unique(np.concatenate([shards.index[["height", "width"]] for shards in splits]))
    if len(sizes) > 1 and not size:
        raise exits.CannotRun(
            f"--dataset=records:{path} has images of many sizes; give --image_size=PIXELS to bring them to one."
        )
    return tuple(sizes[0].tolist())


def _manifest(root: Path, path: str) -> Manifest:
    try:
        return read_manifest(root / MANIFEST)
    except CorruptRecords as error:
        raise exits.BadData(f"{error}; remove the directory and pack anew with `convoy data pack`.") from error
    except (FileNotFoundError, NotADirectoryError):
        if (root / PLAN).exists():
            raise exits.BadData(
                f"{root} is not packed to its end; give the same `convoy data pack` again, which goes on there."
            ) from None
        what = f"has no {MANIFEST}" if root.is_dir() else "is no folder"
        raise exits.CannotRun(
            f"--dataset=records:{path}: {root} {what}; give a directory that `convoy data pack` filled."
        ) from None
    except OSError as error:
        reason = exits.reason(error)
        raise exits.CannotRun(f"cannot read {root / MANIFEST}: {reason}; make it readable.") from error


def _open_shards(root: Path, split: str, manifest: Manifest, source: Source | None) -> Shards | StreamedShards:
    with _repairable():
        name, shards = index_name(split), shard_names(split, manifest.splits[split])
        index = read_index(root / name, manifest.files[name])
        check_index(index, split, manifest)
        if source:
            return StreamedShards.of_split(source, shards, index)
        return Shards([root / shard for shard in shards], index)


def _groups(root: Path, split: str, manifest: Manifest) -> np.ndarray:
    with _repairable():
        name = groups_name(split)
        return read_groups(root / name, manifest.splits[split].examples, manifest.files[name])


@contextlib.contextmanager
def _repairable() -> Iterator[None]:
    try:
        yield
    except CorruptRecords as error:
        raise exits.BadData(f"{error}; {REMEDY}, or bring back the file as it was packed.") from error
