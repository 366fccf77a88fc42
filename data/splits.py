"""Which examples train, which choose the best checkpoint, which are the test."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data import groups as grouping
from convoy.data.config import DataConfig
from convoy.data.images.hashing import content_hash
from convoy.data.sources.examples import DataSet, Examples
from convoy.data.sources.layout import first_few

_E = TypeVar("_E", bound=Examples)
_NOTED = 0.01  # by how much a share may differ from the one that was asked for without a note


def resolve(config: DataConfig, dataset: DataSet) -> DataConfig:
    """--eval_split=auto -> the split that it means for this data set."""
    return config.resolved(dataset.split_names)


def train_and_eval(config: DataConfig, dataset: DataSet) -> tuple[Examples, Examples | None]:
    """The examples to train on, and those that choose the best checkpoint (None for --eval_split=none)."""
    whole = dataset.split("train")
    if config.eval_split == "none":
        return whole, None
    spec = config.eval_split_spec
    if not spec.fraction:
        return whole, dataset.split(config.eval_split)
    if (groups := dataset.groups.get("train")) is not None:
        train, held_out = by_group(whole, groups, spec.fraction, "eval")
        share = len(held_out) / len(groups)
        if abs(share - spec.fraction) > _NOTED:
            print(
                f"Note: --eval_split={config.eval_split} holds out {share:.1%} of the training examples, since each of its"
                f" {counted(len(np.unique(groups)), 'group')} stays whole."
            )
    elif spec.name == "stratified":
        # Equal images are a group, so that they fall on the same side here too.
        train, held_out = by_group(whole, whole.content_hashes(), spec.fraction, "eval")
    else:
        train, held_out = by_hash(whole, spec.fraction, "eval")
    if not len(train) or not len(held_out):
        raise exits.BadData(
            f"--eval_split={config.eval_split} leaves {counted(len(train), 'example')} to train on and {len(held_out)} to"
            " evaluate; choose another fraction."
        )
    if missing := [dataset.class_names[label] for label in np.setdiff1d(whole.labels, train.labels)]:
        print(
            f"Note: --eval_split={config.eval_split} leaves no example of {first_few(missing)} to train on;"
            f" --eval_split=stratified:{spec.fraction:g} divides each class."
        )
    return train, held_out


def final(config: DataConfig, dataset: DataSet, held_out: Examples | None) -> tuple[str, Examples]:
    """The split that a finished run is measured on, and its examples.

    That of --test_split, by default the test split; without one those that chose the best checkpoint, and without these the
    training examples.
    """
    if config.test_split not in ("auto", "none"):
        return config.test_split, dataset.split(config.test_split)
    if config.test_split == "auto" and "test" in dataset.split_names:
        return "test", dataset.split("test")
    if held_out is not None:
        return config.eval_split, held_out
    return "train", dataset.split("train")


def by_hash(examples: _E, fraction: float, purpose: str) -> tuple[_E, _E]:
    """(the rest, `fraction` of the examples), told apart by a hash of (purpose, content).

    No seed and no order of files can move an example across, and equal images always fall on the same side.
    """
    # Hashed once more with the purpose: a split of a split must not follow the border of the first one.
    hashes = np.array([content_hash(f"{purpose}/{value!r}".encode()) for value in examples.content_hashes().tolist()])
    held_out = hashes < fraction
    return examples.select(np.flatnonzero(~held_out)), examples.select(np.flatnonzero(held_out))


def by_group(examples: _E, groups: np.ndarray, fraction: float, purpose: str) -> tuple[_E, _E]:
    """(the rest, about `fraction` of the examples), whole groups on either side; see convoy.data.groups.held_out.

    Equal images of two groups may fall on different sides.
    """
    held_out = grouping.held_out(groups, examples.labels, fraction, purpose)
    return examples.select(np.flatnonzero(~held_out)), examples.select(np.flatnonzero(held_out))
