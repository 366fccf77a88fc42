"""The embedded default: 1,797 real handwritten digits, 8x8 grey, that scikit-learn ships (UCI ML digits)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from convoy.data.config import DataConfig
from convoy.data.images.resize import resized
from convoy.data.sources.examples import DataSet
from convoy.data.sources.in_memory import InMemory
from convoy.data.splits import by_hash

# scikit-learn ships one set without splits; a fifth of it, by content hash, is held out for the test.
TEST_FRACTION = 0.2


def open_digits(config: DataConfig) -> DataSet:
    pixels, labels = _table()
    # 17 grey levels, 0 to 16.
    images = np.round(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = by_hash(InMemory(images, labels), TEST_FRACTION, "digits")
    view = config.view._replace(size=config.image_size or images.shape[1])
    return DataSet(
        "digits",
        tuple(str(digit) for digit in range(10)),
        (view.size, view.size, 1),
        {"train": lambda: resized(train, view), "test": lambda: resized(test, view)},
    )


def _table() -> tuple[np.ndarray, np.ndarray]:
    """(grey levels float64 [1797, 64], labels int64 [1797]); the file alone, as importing scikit-learn takes a second."""
    spec = importlib.util.find_spec("sklearn")
    assert spec, "scikit-learn is among what Convoy is installed with"
    table = np.loadtxt(Path(str(spec.origin)).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)
