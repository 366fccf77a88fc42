"""The figures of a page, all from predictions.npz. SciPy and scikit-learn compute what they have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convoy.trainer.logits import Logits

BINS = 15


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
    from scipy.stats import binomtest

    if not total:
        return None
    interval = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    return Share(hits / total, float(interval.low), float(interval.high))


def accuracy(logits: Logits) -> Share | None:
    """The share of examples whose most probable class is the right one."""
    return share(int((logits.guess == logits.label).sum()), len(logits))


def confusion(logits: Logits, classes: int) -> np.ndarray:
    """int64 [classes, classes]: examples of a row's class that were taken for a column's."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(logits.label, logits.guess, labels=np.arange(classes))


def of_classes(matrix: np.ndarray) -> list[ClassFigures]:
    """Of every class, from the confusion matrix, those that were recognised least first."""
    hits, examples, taken = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    classes = [
        ClassFigures(
            index, int(examples[index]), share(int(hit), int(examples[index])), share(int(hit), int(taken[index]))
        )
        for index, hit in enumerate(hits)
    ]
    return sorted(classes, key=lambda figures: (figures.recall is None, figures.recall, figures.label))


def worst_pairs(matrix: np.ndarray, count: int) -> list[Pair]:
    """The classes that were mistaken most often, at most `count`."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        Pair(int(label), int(guess), int(wrong[label, guess]), int(matrix[label].sum()))
        for label, guess in pairs
        if wrong[label, guess]
    ]


def calibration(logits: Logits) -> Calibration:
    """By the confidence in the most probable class, in 15 bins of equal width."""
    confidence, is_correct = logits.confidence, logits.guess == logits.label
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    examples = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=BINS) / examples for values in (confidence, is_correct)]
    error = np.nansum(examples * np.abs(means[1] - means[0])) / len(logits)
    return Calibration(float(error), examples, *means)
