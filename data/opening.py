"""Opens a data set and divides it as the flags say: for everything that trains, measures or draws."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from convoy.data import splits
from convoy.data.balance import draws_per_class
from convoy.data.config import DataConfig
from convoy.data.identity import Identity
from convoy.data.sources.examples import DataSet, Examples
from convoy.data.sources.opening import open_dataset


@dataclasses.dataclass(frozen=True)
class Splits:
    """An opened data set and the use of its examples.

    Attributes:
      config: no `auto` is left in it.
      dataset: all of it.
      train: the examples to train on.
      held_out: those that choose the best checkpoint, if any do.
      examples_per_class: int64 [classes], of `train`.
      draws_per_class: int64 [classes], how often an epoch shows each class.
    """

    config: DataConfig
    dataset: DataSet
    train: Examples
    held_out: Examples | None
    examples_per_class: np.ndarray
    draws_per_class: np.ndarray

    @functools.cached_property
    def final(self) -> tuple[str, Examples]:
        """The split that a finished run is measured on: its name and its examples."""
        return splits.final(self.config, self.dataset, self.held_out)

    @property
    def epoch(self) -> int:
        """Positions of an epoch."""
        return int(self.draws_per_class.sum())

    @property
    def identity(self) -> Identity:
        """What a run is begun on."""
        return Identity(len(self.train), self.dataset.class_names, self.dataset.origin)


def open_splits(config: DataConfig, download: bool = True) -> Splits:
    """Opens --dataset. Raises CannotRun for a name that is none, BadData for examples that cannot be used.

    Args:
      config: what to open, and where.
      download: whether --data_dir is a place that this user named, where TFDS may prepare what is not there.
    """
    dataset = open_dataset(config, download=download)
    config = splits.resolve(config, dataset)
    train, held_out = splits.train_and_eval(config, dataset)
    counts = np.bincount(train.labels, minlength=len(dataset.class_names))
    return Splits(config, dataset, train, held_out, counts, draws_per_class(counts, config.balance_spec))
