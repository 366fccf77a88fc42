"""Folders of small images, and what a data set makes of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from convoy.data.config import DataConfig
from convoy.data.sources.examples import DataSet
from convoy.data.sources.opening import open_dataset


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 90, 10)).save(file, format)
    return file.getvalue()


JPEG, PNG, BMP = encoded("JPEG"), encoded("PNG"), encoded("BMP")
PREDICT = "which `convoy predict` is for"


def write(root: Path, *names: str, content: bytes = JPEG) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def several(root: Path, **counts: int) -> None:
    """cat=3: cat/0.jpg to cat/2.jpg; __ stands for a slash."""
    for folder, count in counts.items():
        write(root, *(f"{folder.replace('__', '/')}/{number}.jpg" for number in range(count)))


def opened(root: Path, **flags: object) -> DataSet:
    return open_dataset(DataConfig(f"folder:{root}", **{"image_size": 8, "eval_split": "none", **flags}))


def counts(dataset: DataSet) -> dict[str, dict[str, int]]:
    """Split -> class -> images."""
    names, splits = dataset.class_names, {split: dataset.split(split) for split in dataset.split_names}
    return {
        split: dict(zip(names, np.bincount(examples.labels, minlength=len(names)).tolist(), strict=True))
        for split, examples in splits.items()
    }
