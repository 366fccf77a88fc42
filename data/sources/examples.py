"""What a source gives: splits of examples with random access by index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.data.augment.geometry import warp
from convoy.data.config import DataConfig
from convoy.data.identity import Origin
from convoy.data.images.hashing import content_hash
from convoy.data.images.unreadable import TRIES, BadImages
from convoy.data.images.windows import NUMBERS, random_windows
from convoy.data.order import PositionRanges

# (indices int64 [n], their positions or None) -> (images uint8 [n, height, width, channels], float32 [n]: 1, or 0 for an
# image that could not be read and does not count). With positions a third may follow, where another example may have taken
# the place of one that could not be read: int64 [n], the indices of what is shown.
Fetcher = Callable[[tf.Tensor, PositionRanges | None], tuple[tf.Tensor, ...]]


class Examples(Protocol):
    """N labelled images of one shape."""

    labels: np.ndarray  # int32 [N]

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, channels) of every image."""

    def __len__(self) -> int: ...

    def fetcher(self, min_area: float = 0) -> Fetcher:
        """The graph function that reads images.

        With `min_area` each is a random part of the original, of at least this share of its area, at the image's size
        (--augment=resized), where positions are given.
        """

    def unreadable(self) -> np.ndarray:
        """int64: the indices of those that an evaluation leaves out; may take reading all. BadData if there are too many."""

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
      bad: which of its images cannot be read, and what is done about them.
      origin: by what it is known wherever it lies; without one, by its name.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        image_shape: tuple[int, int, int],
        splits: Mapping[str, Callable[[], Examples]],
        bad: BadImages | None = None,
        origin: Origin | None = None,
    ):
        self.bad = BadImages() if bad is None else bad  # an empty one is false
        self.origin = origin or Origin(name)
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


def larger_cache(config: DataConfig) -> str:
    """The remedy for a source that decodes as it draws."""
    return f"a larger --cache_bytes (now {config.cache_bytes}) if the images fit into memory"


class InMemory:
    """Examples decoded into uint8 memory: images [N, height, width, channels], labels [N].

    Args:
      images, labels: of the N examples.
      hashes: the content hashes where the images are not the original content (resized, for example).
      unreadable: indices of images that could not be read.
      substitutes: whether others take their places in training.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        hashes: np.ndarray | None = None,
        unreadable: Sequence[int] | np.ndarray = (),
        substitutes: bool = False,
    ):
        self.images = np.ascontiguousarray(images, dtype=np.uint8)
        self.labels = np.asarray(labels, dtype=np.int32)
        self._unreadable, self._substitutes = np.array(unreadable, np.int64), substitutes
        self._hashes = hashes
        self._tensor: tf.Tensor | None = None

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
            counts, places = tf.constant(self._counts()), tf.constant(self._places())
        images = self._tensor

        def fetch(indices: tf.Tensor, positions: PositionRanges | None) -> tuple[tf.Tensor, ...]:
            shown = tf.gather(places, indices) if positions and self._substitutes else indices
            pixels = tf.gather(images, shown)
            if positions and min_area:
                pixels = random_parts(pixels, positions.uniforms(NUMBERS, "resized"), min_area)
            fetched = pixels, tf.gather(counts, shown)
            return (*fetched, shown) if positions and self._substitutes else fetched

        return fetch

    def unreadable(self) -> np.ndarray:
        return self._unreadable

    def content_hashes(self) -> np.ndarray:
        if self._hashes is None:
            self._hashes = np.array([content_hash(image.tobytes()) for image in self.images], dtype=np.float64)
        return self._hashes

    def select(self, indices: np.ndarray) -> InMemory:
        hashes = None if self._hashes is None else self._hashes[indices]
        unreadable = np.flatnonzero(np.isin(indices, self._unreadable))
        return InMemory(self.images[indices], self.labels[indices], hashes, unreadable, self._substitutes)

    def explain(self) -> str:
        return ""

    def _counts(self) -> np.ndarray:
        counts = np.ones(len(self), np.float32)
        counts[self._unreadable] = 0
        return counts

    def _places(self) -> np.ndarray:
        """Index -> the first of it and the TRIES after it that can be read; itself if none can."""
        places, bad = np.arange(len(self)), set(self._unreadable.tolist())
        for index in bad:
            after = ((index + step) % len(self) for step in range(TRIES + 1))
            places[index] = next((one for one in after if one not in bad), index)
        return places


def random_parts(images: tf.Tensor, numbers: tf.Tensor, min_area: float) -> tf.Tensor:
    """Random windows of uint8 [n, h, w, c] at the same size, bilinear, by random numbers [n, NUMBERS]."""
    _, height, width, _ = images.shape
    sides = tf.ones_like(numbers[:, 0], tf.int32)
    top, left, tall, wide = tf.unstack(random_windows(numbers, height * sides, width * sides, min_area), axis=1)
    none = tf.zeros_like(top)
    across = [wide / width, none, left + (wide - width) / 2]
    down = [none, tall / height, top + (tall - height) / 2]
    return warp(images, tf.reshape(tf.stack([*across, *down], axis=1), [-1, 2, 3]))
