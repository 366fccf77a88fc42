"""Examples in image files: decoded once into memory where they fit, else as they are drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from convoy import exits
from data.order import Stretches
from data.parallel import in_parallel
from data.resize import resize_and_crop
from data.sources.examples import Fetcher, InMemory, content_hash

CHANNELS = 3


class Files:
    """N image files. See data.sources.examples.Examples.

    Args:
      paths: the files.
      labels: a class index each.
      shape: (height, width, channels) that every decoded image has.
      size: resize and crop to this side; 0 takes the images as they are, and refuses any of another shape.
      cache_bytes: decode into memory if the split needs no more than this.
    """

    def __init__(
        self, paths: Sequence[str], labels: Sequence[int], shape: tuple[int, int, int], size: int, cache_bytes: int
    ):
        self.paths, self.labels = list(paths), np.asarray(labels, dtype=np.int32)
        self.shape, self.size, self.cache_bytes = shape, size, cache_bytes
        self._hashes: np.ndarray | None = None
        self._decoded: InMemory | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def fetcher(self, least_area: float = 0) -> Fetcher:
        if len(self) * int(np.prod(self.shape)) <= self.cache_bytes:
            return self._decode_all().fetcher()
        with tf.device("CPU:0"):
            paths = _names(self.paths)
        signature = tf.TensorSpec(self.shape, tf.uint8)

        def fetch(indices: tf.Tensor, positions: Stretches | None) -> tuple[tf.Tensor, tf.Tensor]:
            images = tf.map_fn(self._decode, tf.gather(paths, indices), fn_output_signature=signature)
            return images, tf.ones(tf.shape(indices))

        return fetch

    def content_hashes(self) -> np.ndarray:
        if self._hashes is None:
            self._hashes = np.array([content_hash(_read(path)) for path in self.paths], dtype=np.float64)
        return self._hashes

    def select(self, indices: np.ndarray) -> Files:
        part = Files([self.paths[i] for i in indices], self.labels[indices], self.shape, self.size, self.cache_bytes)
        part._hashes = None if self._hashes is None else self._hashes[indices]
        return part

    def explain(self) -> str:
        for path in self.paths:
            try:
                self._decode(_names([path])[0])
            except (tf.errors.OpError, ValueError):
                shape = image_shape(path, self.size)  # raises its own sentence if the file cannot be decoded
                return (
                    f"{path} is {shape[1]}x{shape[0]} pixels, the first image {self.shape[1]}x{self.shape[0]}; give"
                    " --image_size=PIXELS to bring them to one size."
                )
        return ""

    def _decode(self, path: tf.Tensor) -> tf.Tensor:
        image = _decode_file(path)
        if self.size:
            image = resize_and_crop(image, self.size)
        return tf.ensure_shape(image, self.shape)

    def _decode_all(self) -> InMemory:
        if self._decoded is None:
            images = np.empty((len(self), *self.shape), np.uint8)
            stream = in_parallel(tf.data.Dataset.from_tensor_slices(_names(self.paths)), self._decode, ahead=64)
            try:
                for row, image in enumerate(stream.as_numpy_iterator()):
                    images[row] = image
            except tf.errors.OpError as error:
                raise exits.BadData(self.explain() or str(error)) from error
            self._decoded = InMemory(images, self.labels)
        return self._decoded


def image_shape(path: str, size: int) -> tuple[int, int, int]:
    """(height, width, channels) of an image once decoded; BadData, by its path, if it cannot be read."""
    _read(path)
    try:
        image = _decode_file(_names([path])[0])
    except tf.errors.OpError as error:
        reason = error.message.split("[Op:")[0].split("}} ")[-1].strip().rstrip(".")
        raise exits.BadData(f"cannot decode the image {path}: {reason}; replace or remove it.") from error
    return (size, size, CHANNELS) if size else tuple(image.shape)


def _decode_file(path: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(tf.io.read_file(path), channels=CHANNELS, expand_animations=False)


def _names(paths: Sequence[str]) -> tf.Tensor:
    """The paths for TensorFlow, byte by byte: a name need not be valid UTF-8."""
    return tf.constant([os.fsencode(path) for path in paths])


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise exits.BadData(f"cannot read the image {path}: {(error.strerror or str(error)).lower()}.") from error
