"""What a source gives: splits of examples with random access by index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from convoy import exits
from convoy.data.arrays import Images, Indices, Valid
from convoy.data.config import DataConfig
from convoy.data.identity import Origin
from convoy.data.images.unreadable import BadImages
from convoy.data.order import PositionRanges
from convoy.data.schedule import Schedule


class Fetched(NamedTuple):
    """Images that were asked for by index.

    Attributes:
      images: uint8 [n, h, w, c].
      valid: float32 [n]: 0 for an image that could not be read and does not count.
      shown: int64 [n], the indices of what is shown: with positions, another example may stand in for an unreadable one.
    """

    images: Images
    valid: Valid
    shown: Indices


# (indices int64 [n], their positions; None in an evaluation) -> what they show
Fetcher = Callable[[Indices, PositionRanges | None], Fetched]


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


@runtime_checkable
class Streamed(Protocol):
    """Examples that come from far away while they are read: told beforehand what will be read, they have it ready."""

    def along(self, schedule: Schedule) -> Examples:
        """The same examples, for a training stream that reads along a schedule."""


class DataSet:
    """An opened data set; a split is read when it is first asked for.

    Args:
      name: as the person wrote it.
      class_names: label -> name.
      image_shape: (height, width, channels).
      splits: name -> function that reads the split.
      bad: which of its images cannot be read, and what is done about them.
      origin: by what it is known wherever it lies; without one, by its name.
      groups: split -> the group of each example, float64 [N] (convoy.data.groups), of splits whose examples have some.
      unlabelled: splits of images without labels, from which nothing is learned or measured.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        image_shape: tuple[int, int, int],
        splits: Mapping[str, Callable[[], Examples]],
        bad: BadImages | None = None,
        origin: Origin | None = None,
        groups: Mapping[str, np.ndarray] | None = None,
        unlabelled: Collection[str] = (),
    ):
        self.bad = BadImages() if bad is None else bad  # an empty one is false
        self.origin, self.groups, self._unlabelled = origin or Origin(name), groups or {}, unlabelled
        self.name, self.class_names, self.image_shape = name, class_names, image_shape
        self._readers, self._splits = splits, dict[str, Examples]()

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(self._readers)

    def split(self, name: str) -> Examples:
        """The split's examples, checked: there are some, and every label names a class."""
        if name in self._unlabelled:
            raise exits.CannotRun(
                f"the split {name} of {self.name} has no labels, so nothing can be measured on it; `convoy predict` says what"
                " its images show."
            )
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
            label = low if low < 0 else high
            index = int((examples.labels == label).argmax())
            raise exits.BadData(
                f"label out of range: example {index} of the split {split} of {self.name} has label {label}, but its"
                f" {classes} classes are numbered 0 to {classes - 1}; mend the label or leave that split out."
            )


def larger_cache(config: DataConfig) -> str:
    """The remedy for a source that decodes as it draws."""
    return f"a larger --cache_bytes (now {config.cache_bytes}) if the images fit into memory"
