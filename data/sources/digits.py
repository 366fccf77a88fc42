"""The embedded default: 1,797 real handwritten digits, 8x8 grey, that scikit-learn ships (UCI ML digits)."""

from __future__ import annotations

import numpy as np

from convoy.data.config import DataConfig
from convoy.data.images.resize import resized
from convoy.data.sources.examples import DataSet, InMemory
from convoy.data.splits import by_hash

# scikit-learn ships one set without splits; a fifth of it, by content hash, is held out for the test.
TEST_FRACTION = 0.2


def open_digits(config: DataConfig) -> DataSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 17 grey levels, 0 to 16.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = by_hash(InMemory(images, bunch.target), TEST_FRACTION, "digits")
    side = config.image_size or images.shape[1]
    return DataSet(
        "digits",
        tuple(str(digit) for digit in range(10)),
        (side, side, 1),
        {"train": lambda: resized(train, side), "test": lambda: resized(test, side)},
    )
