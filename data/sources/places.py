"""The places that --dataset names, looked at before anything heavy is imported: a row of names.py has the function for its own.

What lies there is judged when it is opened.
"""

from __future__ import annotations

import os
import pkgutil
from pathlib import Path

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.records.caches import is_remote
from convoy.listing import listing


def check(config: DataConfig) -> None:
    """CannotRun for a place that holds nothing that could be opened."""
    if look := config.dataset_spec.source.look:
        pkgutil.resolve_name(look)(config)


def folder(config: DataConfig) -> Path:
    """The folder of --dataset=folder:PATH."""
    path, root = _place(config)
    with listing(root):
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise exits.CannotRun(
                f"--dataset=folder:{path}: {root} {what}; give a folder with one folder of images per class."
            )
    return root


def csv_file(config: DataConfig) -> Path:
    """The file of --dataset=csv:FILE."""
    path, file = _place(config)
    if file.is_dir():
        raise exits.CannotRun(
            f"--dataset=csv:{path}: {file} is a folder; give a CSV file, or --dataset=folder:PATH for one folder of images per"
            " class."
        )
    if not file.exists():
        raise exits.CannotRun(f"--dataset=csv:{path}: {file} does not exist; give a CSV file that lists images.")
    return file


def records(config: DataConfig) -> Path:
    """The directory of --dataset=records:DIR, if it is one of this machine."""
    from convoy.data.records.manifest import MANIFEST, PLAN  # imports what checks records

    path, root = _place(config)
    if not is_remote(path) and not ((root / MANIFEST).exists() or (root / PLAN).exists()):
        what = f"has no {MANIFEST}" if root.is_dir() else "is no folder"
        raise exits.CannotRun(
            f"--dataset=records:{path}: {root} {what}; give a directory that `convoy data pack` filled."
        )
    return root


def _place(config: DataConfig) -> tuple[str, Path]:
    """As a person wrote it, and where it is. os.path leaves ~nobody as it is, where a Path raises."""
    path = str(config.dataset_spec.value)
    return path, Path(os.path.expanduser(path))  # noqa: PTH111
