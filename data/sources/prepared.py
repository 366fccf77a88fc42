"""Checks a data set that TFDS has prepared: a stranger may have written it.

TFDS waits on pipes, formats templates of any width and imports modules that a folder names. So files are checked before TFDS
reads them, and its builder is checked before it is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from convoy import exits
from convoy.listing import entries_of, listing
from convoy.outside import name_in, printable

_NAME = re.compile(r"([A-Za-z]\w*)(?![\w:]*:[A-Za-z]).*")  # none with a namespace, which lies elsewhere
_TEMPLATE = re.compile(r"([^{}]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})+")
_LEVELS = 2  # of folders below that of the data set: configuration and version
_WHOLE = (".json", ".txt")  # files that TFDS reads whole
_MAX_BYTES = 16 << 20  # of these
_MAX_CLASSES = 1_000_000


def check_files(name: str, data_dir: str) -> str:
    """The data set's folder on this machine, "" if there is none; BadData if something in it is no file, or too large a one."""
    from tensorflow_datasets.core.naming import camelcase_to_snakecase
    from tensorflow_datasets.core.utils.file_utils import list_data_dirs

    folder = ""
    for place in map(str, list_data_dirs(data_dir or None)):
        if "://" not in place and (match := _NAME.fullmatch(name)):
            root = os.path.join(os.path.expanduser(place), camelcase_to_snakecase(match[1]))  # noqa: PTH111, PTH118
            with listing(root):
                folder = folder or (root if _check_below(root, _LEVELS) else "")
    return folder


def check_splits(builder: Any) -> None:
    """BadData unless the splits of a builder of TFDS, and their shards, can be what they are said to be."""
    folder, source = builder.data_path, f"{builder.data_path}/dataset_info.json"
    for split in builder.info.splits.values():
        template, name = split.filename_template, name_in(split.name, source)
        if not _TEMPLATE.fullmatch(template.template):
            _refuse(source, f"{template.template[:200]!r} is no template of a file's name")
        if min(split.shard_lengths, default=0) < 0:
            _refuse(source, f"the split {name} has a shard of {min(split.shard_lengths)} examples")
        for number in range(split.num_shards):
            shard = name_in(template.relative_filepath(shard_index=number, num_shards=split.num_shards), source)
            if "://" not in str(folder):
                _check_file(f"{folder}/{shard}")


def check_features(builder: Any, image: Any, label: Any) -> None:
    """BadData unless images have sides, and classes a number that can be."""
    source = f"{builder.data_path}/features.json"
    if not all(side is None or side > 0 for side in image.shape):
        _refuse(source, f"its images have the shape {image.shape}")
    if not 0 < (label.num_classes or 0) <= _MAX_CLASSES:
        _refuse(source, f"it has {label.num_classes} classes, and 1 to {_MAX_CLASSES:,} are possible")


@contextlib.contextmanager
def nothing_imported() -> Iterator[None]:
    """Keeps TFDS from importing a module because a prepared folder's features.json names it: a folder holds data, not code."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    original = FeatureConnector.__dict__["cls_from_name"]

    def known(cls: type, name: str) -> type:
        if name not in cls._registered_features and not name.startswith("tensorflow_datasets."):  # type: ignore[attr-defined]
            raise ImportError(f"its features.json names {name[:150]!r}, of no module of TFDS; it was not imported")
        return original.__func__(cls, name)

    FeatureConnector.cls_from_name = classmethod(known)
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = original


def _check_below(folder: str, levels: int) -> bool:
    entries = entries_of(folder)
    for entry in entries:
        if _check_file(entry.path) and levels:
            _check_below(entry.path, levels - 1)
    return bool(entries)


def _check_file(path: str) -> bool:
    """Whether it is a folder. Links are followed: data sets are linked to where there is room."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:  # also a link to what is gone, which TFDS does not see either
        return False
    except OSError as error:
        raise exits.BadData(f"{printable(path)} is no file: {exits.reason(error)}; remove it.") from error
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        raise exits.BadData(f"{printable(path)} is no regular file; remove it, or prepare the data set again.")
    if path.endswith(_WHOLE) and status.st_size > _MAX_BYTES:
        raise exits.BadData(
            f"{printable(path)} has {status.st_size:,} bytes, and {_MAX_BYTES:,} are the most; prepare it again."
        )
    return False


def _refuse(source: str, what: str) -> None:
    raise exits.BadData(f"{printable(source)} is none that TFDS writes: {printable(what)}; prepare the data set again.")
