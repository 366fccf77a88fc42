"""Packed records (`convoy data pack`): pixels, or image files, read by their places in few large files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convoy import exits
from data import records
from data.bad import BadImages
from data.caches import is_remote
from data.config import DataConfig
from data.records import Damaged, Shards
from data.remote import mirrored
from data.sources.examples import DataSet
from data.sources.files import CHANNELS
from data.sources.packed import REMEDY, PackedFiles, PackedPixels


def open_records(path: str, config: DataConfig) -> DataSet:
    """DIR as `convoy data pack` left it: the examples of what was packed, in its order and splits."""
    # expanduser leaves ~nobody as it is, where a Path raises.
    root = mirrored(path, config.data_dir) if is_remote(path) else Path(os.path.expanduser(path))  # noqa: PTH111
    manifest = _manifest(root, path)
    plan, size = manifest["plan"], config.image_size
    bad = BadImages(config.bad_images, config.max_bad_fraction, named="", remedy=REMEDY)

    @functools.cache
    def shards(split: str) -> Shards:
        planned = plan["splits"][split]
        bad.expect(split, planned["examples"])
        return _open_shards(root, split, planned["shards"], manifest["files"])

    height, width, channels = plan["shape"] or (
        *_one_size([shards(name) for name in plan["splits"]], size, path),
        CHANNELS,
    )
    shape = (size or height, size or width, channels)

    def reader(split: str) -> Callable[[], PackedPixels | PackedFiles]:
        def read() -> PackedPixels | PackedFiles:
            kind = PackedPixels if plan["shape"] else PackedFiles
            rows = np.arange(len(shards(split).index))
            examples = kind(split, shards(split), rows, shape, size, config.cache_bytes, bad)
            if examples.decoded_bytes > config.cache_bytes:
                print(
                    f"Note: the split {split} of records:{path} takes {examples.decoded_bytes / 2**30:.1f} GiB decoded, more"
                    f" than --cache_bytes={config.cache_bytes}: it is read as it is drawn."
                )
            return examples

        return read

    return DataSet(
        f"records:{path}", tuple(plan["classes"]), shape, {split: reader(split) for split in plan["splits"]}, bad
    )


def _one_size(splits: list[Shards], size: int, path: str) -> tuple[int, int]:
    """(height, width) of all images; CannotRun if they differ and are brought to no `size`."""
    sizes = np.unique(np.concatenate([shards.index[["height", "width"]] for shards in splits]))
    if len(sizes) > 1 and not size:
        raise exits.CannotRun(
            f"--dataset=records:{path} has images of many sizes; give --image_size=PIXELS to bring them to one."
        )
    return tuple(sizes[0].tolist())


def _manifest(root: Path, path: str) -> dict[str, Any]:
    try:
        manifest = records.read_json(root / records.MANIFEST)
    except Damaged as error:
        raise exits.BadData(f"{error}; remove the directory and pack anew with `convoy data pack`.") from error
    except (FileNotFoundError, NotADirectoryError):
        if (root / records.PLAN).exists():
            raise exits.BadData(
                f"{root} is not packed to its end; give the same `convoy data pack` again, which goes on there."
            ) from None
        what = f"has no {records.MANIFEST}" if root.is_dir() else "is no folder"
        raise exits.CannotRun(
            f"--dataset=records:{path}: {root} {what}; give a directory that `convoy data pack` filled."
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise exits.CannotRun(f"cannot read {root / records.MANIFEST}: {reason}; make it readable.") from error
    if (schema := manifest["plan"]["schema"]) != records.SCHEMA:
        raise exits.CannotRun(
            f"{root} was packed in schema {schema}, and this version of Convoy reads {records.SCHEMA}; pack it anew."
        )
    return manifest


def _open_shards(root: Path, split: str, count: int, files: dict[str, Any]) -> Shards:
    try:
        name = records.index_name(split)
        index = records.read_index(root / name, files[name])
        return Shards([root / records.shard_name(split, shard, count) for shard in range(count)], index)
    except Damaged as error:
        raise exits.BadData(f"{error}; {REMEDY}, or bring back the file as it was packed.") from error
