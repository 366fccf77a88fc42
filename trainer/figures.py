"""The figures of a page, all from predictions.npz.

They are a few lines of NumPy each: every run draws its page, and importing scipy.stats and scikit-learn for them takes longer
than all the rest of it. The tests hold each to those libraries' own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from convoy.trainer.logits import Logits

BINS = 15
Z = 1.959963984540054  # of the normal distribution, whose middle 95 % lie within it


class Share(NamedTuple):
    """A share of examples, with the bounds of its 95 % interval (Wilson 1927)."""

    value: float
    low: float
    high: float


class ClassFigures(NamedTuple):
    """Of one class: its examples, the share of them that was recognised, and the share of what was taken for it that is it.

    The shares are None where there is nothing to divide by.
    """

    label: int
    examples: int
    recall: Share | None
    precision: Share | None


class Pair(NamedTuple):
    """How often examples of a class were taken for another."""

    label: int
    guess: int
    examples: int
    class_examples: int  # that the class has


class Calibration(NamedTuple):
    """How far confidence is from accuracy (Guo et al. 2017, section 2).

    Attributes:
      error: the expected calibration error: the mean over examples of |accuracy - confidence| of their bin.
      examples: int64 [15], by confidence, in equal parts of (0, 1].
      confidence: float64 [15], the mean; NaN of an empty bin.
      accuracy: float64 [15], likewise.
    """

    error: float
    examples: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def share(hits: int, total: int) -> Share | None:
    """hits / total with its interval; None of nothing."""
    if not total:
        return None
    value, weight = hits / total, Z * Z / total
    middle = value + weight / 2
    reach = math.sqrt(weight * value * (1 - value) + weight * weight / 4)
    low, high = (max(0.0, min(1.0, (middle + side) / (1 + weight))) for side in (-reach, reach))
    return Share(value, low if hits else 0.0, high if hits < total else 1.0)


def accuracy(logits: Logits) -> Share | None:
    """The share of examples whose most probable class is the right one."""
    return share(int((logits.guess == logits.label).sum()), len(logits))


def confusion(logits: Logits, classes: int) -> np.ndarray:
    """int64 [classes, classes]: examples of a row's class that were taken for a column's."""
    pairs = logits.label.astype(np.int64) * classes + logits.guess
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def of_classes(logits: Logits, classes: int, limit: int) -> list[ClassFigures]:
    """Of the classes that were recognised least, the least first, at most `limit`; those without examples come last."""
    correct = logits.label[logits.guess == logits.label]
    hits, examples, taken = (np.bincount(each, minlength=classes) for each in (correct, logits.label, logits.guess))
    recall = np.where(examples > 0, hits / np.maximum(examples, 1), 2)
    return [
        ClassFigures(
            int(label),
            int(examples[label]),
            share(int(hits[label]), int(examples[label])),
            share(int(hits[label]), int(taken[label])),
        )
        for label in np.argsort(recall, kind="stable")[:limit]
    ]


def worst_pairs(logits: Logits, limit: int) -> list[Pair]:
    """The classes that were mistaken most often, at most `limit`."""
    wrong = logits.guess != logits.label
    mistakes = np.stack([logits.label[wrong], logits.guess[wrong]], axis=1)
    pairs, counts = np.unique(mistakes, axis=0, return_counts=True)
    return [
        Pair(int(pairs[row, 0]), int(pairs[row, 1]), int(counts[row]), int((logits.label == pairs[row, 0]).sum()))
        for row in np.argsort(-counts, kind="stable")[:limit]
    ]


def calibration(logits: Logits) -> Calibration:
    """By the confidence in the most probable class, in 15 bins of equal width; of examples whose logits are finite."""
    finite = np.isfinite(logits.confidence)
    confidence, is_correct = logits.confidence[finite], (logits.guess == logits.label)[finite]
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    examples = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=BINS) / examples for values in (confidence, is_correct)]
    error = np.nansum(examples * np.abs(means[1] - means[0])) / max(len(confidence), 1)
    return Calibration(float(error), examples, *means)


def worst(logits: Logits, limit: int) -> np.ndarray:
    """int64, the rows of wrong examples by their loss, the largest first, at most `limit`; losses that are not finite last."""
    rows = np.flatnonzero(logits.guess != logits.label)
    losses = logits.losses[rows]
    return rows[np.argsort(-np.where(np.isfinite(losses), losses, -np.inf), kind="stable")[:limit]]


def least_certain(logits: Logits, limit: int) -> np.ndarray:
    """int64, the rows whose most probable class is the least probable, at most `limit`, that first."""
    confidence = logits.confidence
    return np.argsort(np.where(np.isfinite(confidence), confidence, np.inf), kind="stable")[:limit]
