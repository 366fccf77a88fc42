"""Learnable noise of any shape, for speed measurements and tests: no file, no download."""

from __future__ import annotations

import numpy as np

from convoy import exits
from convoy.data import memory
from convoy.data.config import DataConfig
from convoy.data.keys import key
from convoy.data.sources.arguments import SyntheticShape
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory


def open_synthetic(config: DataConfig) -> DataSet:
    """synthetic:HxWxC:CLASSES:N -> N training examples and ceil(N / 5) of test; a class is a brightness plus noise."""
    spec = config.dataset_spec.value
    assert isinstance(spec, SyntheticShape)
    height, width, channels, classes, count = spec
    if config.image_size:
        raise exits.CannotRun(
            f"--image_size={config.image_size} does not go with {config.dataset}, which names its size; leave it out."
        )
    memory.check("dataset", config.dataset, "its images", height * width * channels * (count + -(-count // 5)))
    shape = (height, width, channels)
    return DataSet(
        config.dataset,
        tuple(f"class{index}" for index in range(classes)),
        shape,
        {
            "train": lambda: _examples("train", count, shape, classes),
            "test": lambda: _examples("test", -(-count // 5), shape, classes),
        },
    )


def _examples(split: str, count: int, shape: tuple[int, int, int], classes: int) -> InMemory:
    generator = np.random.Generator(np.random.Philox(key("synthetic", split)))
    labels = generator.integers(0, classes, count, dtype=np.int32)
    levels = np.linspace(0, 192, classes).astype(np.uint8)
    images = generator.integers(0, 64, (count, *shape), dtype=np.uint8)
    images += levels[labels][:, None, None, None]
    return InMemory(images, labels)
