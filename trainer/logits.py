"""What a model said of each example of a measurement: predictions.npz, from which all figures follow without the model.

Up to 1,000 classes it has all logits, above that those of the 20 most probable classes and what figures need of the others.
docs/report.md has the format. Imports no TensorFlow and no JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import zipfile
from typing import NamedTuple

import numpy as np

from convoy import exits
from convoy.trainer.checkpoints.archive import members
from convoy.trainer.checkpoints.snapshot import add_tensor

ALL_UP_TO = 1000  # classes
TOP = 20


class Shortened(NamedTuple):
    """What is kept besides the logits of the most probable classes.

    Attributes:
      classes: int32 [N, 20], those that the logits belong to, the most probable first.
      own: floats [N], the logit of the right class.
      log_sum: float64 [N], the logarithm of the sum of the exponentials of all logits.
      rank: int32 [N], how many classes have a larger logit than the right one.
    """

    classes: np.ndarray
    own: np.ndarray
    log_sum: np.ndarray
    rank: np.ndarray


@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits of N examples, in the order of their split.

    Attributes:
      index: int64 [N], their places in the split; those that cannot be read are not among them.
      label: int32 [N], the right class.
      logits: floats [N, classes], or [N, 20] of more than 1,000 classes, the largest first.
      shortened: of more than 1,000 classes.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    shortened: Shortened | None = None

    def __len__(self) -> int:
        return len(self.label)

    @functools.cached_property
    def guess(self) -> np.ndarray:
        """int [N], the most probable class; of several the first."""
        return self.shortened.classes[:, 0] if self.shortened else self.logits.argmax(axis=1)

    @functools.cached_property
    def rank(self) -> np.ndarray:
        """int [N], how many classes have a larger logit than the right one."""
        return self.shortened.rank if self.shortened else _ranks(self.logits, self.label)

    @functools.cached_property
    def log_sum(self) -> np.ndarray:
        """float64 [N], the logarithm of what the exponentials of all logits sum to."""
        return self.shortened.log_sum if self.shortened else _log_sums(self.logits)

    @property
    def losses(self) -> np.ndarray:
        """float64 [N], the cross-entropy of each."""
        own = self.shortened.own if self.shortened else _of(self.logits, self.label)
        return self.log_sum - own

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """float64 [N], the probability of the most probable class."""
        return np.exp(self.logits.max(axis=1) - self.log_sum)

    def to_bytes(self) -> bytes:
        """predictions.npz; equal logits are equal bytes."""
        arrays = {"index": self.index, "label": self.label, "logits": self.logits}
        if self.shortened:
            arrays |= self.shortened._asdict()
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                add_tensor(archive, name, np.ascontiguousarray(array))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, classes: int, source: str) -> Logits:
        """The inverse of to_bytes, of a file that anybody may have written.

        Raises:
          exits.BadData: a sentence that begins with `source`, for anything else than logits of so many classes.
        """
        names = ["index", "label", "logits", *(Shortened._fields if classes > ALL_UP_TO else ())]
        try:
            tensors = members(data, names)
            for name, member in zip(names, tensors, strict=True):
                member.check_crc32(name)
            index, label, logits, *more = (member.value for member in tensors)
            _check(classes, index, label, logits, *more)
        except ValueError as error:
            raise exits.BadData(f"{source}: the file {error}; remove it, and measure the run again.") from error
        return cls(index, label, logits, Shortened(*more) if more else None)


class Collector:
    """Takes the logits of a split while it is evaluated.

    Args:
      labels: int32 [N], of the split.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels
        self._indices, self._rows, self._shortened = list[np.ndarray](), list[np.ndarray](), list[Shortened]()

    def __call__(self, indices: np.ndarray, logits: np.ndarray) -> None:
        """Takes those of the examples at int64 [n], floats [n, classes]."""
        labels = self._labels[indices]
        self._indices.append(indices)
        if logits.shape[1] > ALL_UP_TO:
            classes = _most_probable(logits)
            self._shortened.append(
                Shortened(classes, _of(logits, labels), _log_sums(logits), _ranks(logits, labels).astype(np.int32))
            )
            logits = np.take_along_axis(logits, classes, axis=1)
        self._rows.append(logits)

    def logits(self) -> Logits:
        """All that were taken."""
        index, shortened = np.concatenate(self._indices), None
        if self._shortened:
            shortened = Shortened(*(np.concatenate(parts) for parts in zip(*self._shortened, strict=True)))
        return Logits(index, self._labels[index].astype(np.int32), np.concatenate(self._rows), shortened)


def most_bytes(examples: int, classes: int) -> int:
    """Bytes that predictions.npz of so many examples and classes has at most."""
    columns = TOP if classes > ALL_UP_TO else classes
    return (1 << 13) + examples * (8 + 4 + 8 * columns + 4 * TOP + 8 + 8 + 4)


def _most_probable(logits: np.ndarray) -> np.ndarray:
    """int32 [n, 20], the classes with the largest logits of more than 20, the largest first; of several largest the first."""
    rows, best = np.arange(len(logits))[:, None], logits.argmax(axis=1)[:, None]
    rest = -logits
    rest[rows, best] = np.inf
    # Sorting all of 20,000 classes would take longer than the model.
    others = np.argpartition(rest, TOP - 1, axis=1)[:, : TOP - 1]
    others = others[rows, np.argsort(rest[rows, others], axis=1, kind="stable")]
    return np.concatenate([best, others], axis=1).astype(np.int32)


def _of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]


def _ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (logits > _of(logits, labels)[:, None]).sum(axis=1)


def _log_sums(logits: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return logsumexp(logits.astype(np.float64), axis=1)


def _check(classes: int, index: np.ndarray, label: np.ndarray, logits: np.ndarray, *more: np.ndarray) -> None:
    """ValueError for arrays that no measurement writes."""
    columns = TOP if more else classes
    shapes = [array.shape for array in (index, label, logits, *more)]
    n = len(label) if label.ndim else -1
    if shapes != [(n,), (n,), (n, columns), *([(n, columns), (n,), (n,), (n,)] if more else [])]:
        raise ValueError(f"holds no predictions of {classes:,} classes")
    kinds = [array.dtype for array in (index, label, *more[:1], *more[3:])]
    if kinds != [np.dtype(np.int64), *[np.dtype(np.int32)] * (len(kinds) - 1)] or logits.dtype.kind != "f":
        raise ValueError("holds numbers of another type than predictions have")
    if n and (
        min(array.min() for array in (label, *more[:1])) < 0
        or max(array.max() for array in (label, *more[:1])) >= classes
    ):
        raise ValueError(f"names a class that is none of the {classes:,}")
    if n and (index[0] < 0 or (np.diff(index) <= 0).any()):
        raise ValueError("does not name its examples in their order")
