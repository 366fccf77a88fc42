"""Examples decoded into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Images, Indices, Uniforms
from convoy.data.augment.geometry import warp
from convoy.data.images.crop_geometry import NUMBERS, random_windows
from convoy.data.images.hashing import content_hash
from convoy.data.images.unreadable import TRIES
from convoy.data.order import PositionRanges
from convoy.data.sources.examples import Fetched, Fetcher


class InMemory:
    """Examples decoded into memory: uint8 images [N, height, width, channels], labels [N].

    Args:
      images, labels: of the N examples.
      hashes: the content hashes where the images are not the original content (resized, for example).
      unreadable: indices of images that could not be read.
      substitutes: whether others take the places of these in training.
    """

    _dtype: np.dtype | None = np.dtype(np.uint8)

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        hashes: np.ndarray | None = None,
        unreadable: Sequence[int] | np.ndarray = (),
        substitutes: bool = False,
    ):
        self.images = np.ascontiguousarray(images, dtype=self._dtype)
        self.labels = np.asarray(labels, dtype=np.int32)
        self._unreadable, self._substitutes = np.array(unreadable, np.int64), substitutes
        self._hashes = hashes
        self._tensor: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def fetcher(self, min_area: float = 0) -> Fetcher:
        # On the host whatever else is there: a captured tensor elsewhere would travel with every batch.
        with tf.device("CPU:0"):
            if self._tensor is None:
                self._tensor = tf.constant(self.images)
            valid, substitutes = tf.constant(self._valid()), tf.constant(self._substitutes_of_all())
        images = self._tensor

        def fetch(indices: Indices, positions: PositionRanges | None) -> Fetched:
            shown = tf.gather(substitutes, indices) if positions and self._substitutes else indices
            pixels = tf.gather(images, shown)
            if positions and min_area:
                pixels = random_parts(pixels, positions.uniforms(NUMBERS, "resized"), min_area)
            return Fetched(pixels, tf.gather(valid, shown), shown)

        return fetch

    def unreadable(self) -> np.ndarray:
        return self._unreadable

    def content_hashes(self) -> np.ndarray:
        if self._hashes is None:
            self._hashes = np.array([content_hash(image.tobytes()) for image in self.images], dtype=np.float64)
        return self._hashes

    def select(self, indices: np.ndarray) -> Self:
        hashes = None if self._hashes is None else self._hashes[indices]
        unreadable = np.flatnonzero(np.isin(indices, self._unreadable))
        return type(self)(self.images[indices], self.labels[indices], hashes, unreadable, self._substitutes)

    def explain(self) -> str:
        return ""

    def _valid(self) -> np.ndarray:
        """Float32 [N]: 1, or 0 for an image that could not be read."""
        valid = np.ones(len(self), np.float32)
        valid[self._unreadable] = 0
        return valid

    def _substitutes_of_all(self) -> np.ndarray:
        """Int64 [N]: the index of the first readable image among each and the TRIES after it; its own if there is none."""
        substitutes, bad = np.arange(len(self)), set(self._unreadable.tolist())
        for index in bad:
            candidates = ((index + step) % len(self) for step in range(TRIES + 1))
            substitutes[index] = next((candidate for candidate in candidates if candidate not in bad), index)
        return substitutes


class Features(InMemory):
    """What a network's backbone made of images, in their place: floats [N, d]."""

    _dtype = None  # as they come


def random_parts(images: Images, numbers: Uniforms, min_area: float) -> Images:
    """Random windows of uint8 [n, h, w, c] at the same size, bilinear, by random numbers [n, NUMBERS]."""
    _, height, width, _ = images.shape
    sides = tf.ones_like(numbers[:, 0], tf.int32)
    top, left, tall, wide = tf.unstack(random_windows(numbers, height * sides, width * sides, min_area), axis=1)
    none = tf.zeros_like(top)
    across = [wide / width, none, left + (wide - width) / 2]
    down = [none, tall / height, top + (tall - height) / 2]
    return warp(images, tf.reshape(tf.stack([*across, *down], axis=1), [-1, 2, 3]))
