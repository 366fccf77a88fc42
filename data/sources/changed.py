"""Examples whose images are changed after they are read, for measurements of what a model makes of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Indices
from convoy.data.order import PositionRanges
from convoy.data.sources.examples import Examples, Fetched, Fetcher

# (images uint8 [n, h, w, c], their indices int64 [n]) -> images of the same shape
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Changed:
    """The examples of a split, changed.

    Args:
      examples: as they are.
      change: what becomes of images, a function of image and index alone; None: nothing.
      labels: int32 [N], in place of their own.
    """

    def __init__(self, examples: Examples, change: Change | None = None, labels: np.ndarray | None = None) -> None:
        self._examples, self._change = examples, change
        self.labels = examples.labels if labels is None else labels

    @property
    def shape(self) -> tuple[int, ...]:
        return self._examples.shape

    def __len__(self) -> int:
        return len(self._examples)

    def fetcher(self, min_area: float = 0) -> Fetcher:
        read, change = self._examples.fetcher(min_area), self._change
        if change is None:
            return read

        def fetch(indices: Indices, positions: PositionRanges | None) -> Fetched:
            fetched = read(indices, positions)
            images = tf.numpy_function(change, [fetched.images, fetched.shown], tf.uint8)
            images.set_shape(fetched.images.shape)
            return fetched._replace(images=images)

        return fetch

    def unreadable(self) -> np.ndarray:
        return self._examples.unreadable()

    def content_hashes(self) -> np.ndarray:
        return self._examples.content_hashes()

    def select(self, indices: np.ndarray) -> Self:
        return type(self)(self._examples.select(indices), self._change, self.labels[indices])

    def explain(self) -> str:
        return self._examples.explain()
