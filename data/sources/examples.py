"""What a source gives: splits of examples with random access by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol, Self

import numpy as np
import tensorflow as tf

from convoy import exits
from data.order import Stretches


# (indices int64 [n], their positions or None) -> (images uint8 [n, height, width, channels], float32 [n]: 1, or 0 for an
# image that could not be read and does not count).
Fetcher = Callable[[tf.Tensor, Stretches | None], tuple[tf.Tensor, tf.Tensor]]


class Examples(Protocol):
    """N labelled images of one shape."""

    labels: np.ndarray  # int32 [N]

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels) of every image."""

    def __len__(self) -> int: ...

    def fetcher(self, least_area: float = 0) -> Fetcher:
        """The graph function that reads images.

        With `least_area` each is a random part of the original, of at least this share of its area, at the image's size
        (--augment=resized), where positions are given.
        """

    def content_hashes(self) -> np.ndarray:
        """float64 [N] in [0, 1): a function of the image's content alone, so that equal images share it."""

    def select(self, indices: np.ndarray) -> Self:
        """These examples only, in this order."""

    def explain(self) -> str:
        """After reading failed: which example it was and why, as a sentence; empty if every one can be read."""


class DataSet:
    """An opened data set; a split is read when it is first asked for.

    Args:
      name: as the person wrote it.
      class_names: label -> name.
      image_shape: (height, width, channels).
      splits: name -> function that reads the split.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        image_shape: tuple[int, int, int],
        splits: Mapping[str, Callable[[], Examples]],
    ):
        self.name, self.class_names, self.image_shape = name, class_names, image_shape
        self._readers, self._splits = splits, dict[str, Examples]()

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(self._readers)

    def split(self, name: str) -> Examples:
        """The split's examples, checked: there are some, and every label names a class."""
        if name not in self._readers:
            raise exits.CannotRun(f"{self.name} has no split {name}; it has {', '.join(self._readers)}.")
        if name not in self._splits:
            examples = self._readers[name]()
            self._check(name, examples)
            self._splits[name] = examples
        return self._splits[name]

    def _check(self, split: str, examples: Examples) -> None:
        if not len(examples):
            raise exits.BadData(f"the split {split} of {self.name} holds no examples; add some or remove the split.")
        low, high, classes = int(examples.labels.min()), int(examples.labels.max()), len(self.class_names)
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            where = int((examples.labels == wrong).argmax())
            raise exits.BadData(
                f"label out of range: example {where} of the split {split} of {self.name} has label {wrong}, but its"
                f" {classes} classes are numbered 0 to {classes - 1}; mend the label or leave that split out."
            )


class InMemory:
    """Examples decoded into uint8 memory: images [N, height, width, channels], labels [N].

    `hashes` are the content hashes where the images are not the original content (resized, for example).
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, hashes: np.ndarray | None = None):
        self.images = np.ascontiguousarray(images, dtype=np.uint8)
        self.labels = np.asarray(labels, dtype=np.int32)
        self._hashes = hashes
        self._tensor: tf.Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def fetcher(self, least_area: float = 0) -> Fetcher:
        # On the host whatever else is there: a captured tensor elsewhere would travel with every batch.
        if self._tensor is None:
            with tf.device("CPU:0"):
                self._tensor = tf.constant(self.images)
        images = self._tensor
        return lambda indices, positions: (tf.gather(images, indices), tf.ones(tf.shape(indices)))

    def content_hashes(self) -> np.ndarray:
        if self._hashes is None:
            self._hashes = np.array([content_hash(image.tobytes()) for image in self.images], dtype=np.float64)
        return self._hashes

    def select(self, indices: np.ndarray) -> InMemory:
        hashes = None if self._hashes is None else self._hashes[indices]
        return InMemory(self.images[indices], self.labels[indices], hashes)

    def explain(self) -> str:
        return ""


def content_hash(content: bytes) -> float:
    """BLAKE2b of the bytes as a fraction in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=6).digest(), "little") / 2**48
