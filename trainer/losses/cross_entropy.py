"""Softmax cross-entropy of each example, on either backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops


def cross_entropy(
    logits: Any, labels: Any, label_smoothing: float = 0.0, label_weights: Any = None, gamma: float = 0.0
) -> Any:
    """Softmax cross-entropy of each example.

    Args:
      logits: [n, classes]; bfloat16 is computed in float32.
      labels: integers [n] in [0, classes), or [n, k] with `label_weights`.
      label_smoothing: this fraction of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
      label_weights: [n, k], how much of an example's target each of its labels is. They sum up to 1, or to less where an
        image could not be read.
      gamma: above 0, the term of every class is multiplied by (1 - its probability)**gamma.

    Returns:
      [n], float32, or float64 for float64 logits. The loss of a step is its sum divided by the global batch.
    """
    logits = as_floats(logits)
    terms = ops.log_softmax(logits, axis=-1)
    if gamma:
        # Away from 0, where a power below 1 has no derivative; expm1, because 1 - p is all rounding where p is almost 1.
        others = ops.maximum(-ops.expm1(terms), float(np.finfo(np.float32).tiny))
        terms *= others**gamma
    dtype = ops.dtype(logits)
    target = ops.one_hot(labels, logits.shape[-1], dtype=dtype)
    total_weight: Any = 1
    if label_weights is not None:
        label_weights = ops.cast(label_weights, dtype)
        target, total_weight = ops.sum(label_weights[..., None] * target, axis=1), ops.sum(label_weights, axis=1)
    loss = -ops.sum(target * terms, axis=-1)
    if label_smoothing:
        # No ops.mean: on JAX it computes float64 in float32.
        mean_term = ops.sum(terms, axis=-1) / logits.shape[-1]
        loss = (1 - label_smoothing) * loss - label_smoothing * total_weight * mean_term
    return loss


def is_correct(logits: Any, labels: Any, label_weights: Any) -> Any:
    """bool [n]: whether the largest logit is that of the label with the largest weight; False where both weights are 0."""
    is_first = label_weights[:, 0] >= label_weights[:, 1]
    label = ops.where(is_first, labels[:, 0], labels[:, 1])
    guesses = ops.cast(ops.argmax(logits, axis=-1), ops.dtype(label))
    return ops.logical_and(guesses == label, ops.sum(label_weights, axis=1) > 0)


def as_floats(logits: Any) -> Any:
    """The logits in the precision of a loss: float64 if they have it, else float32."""
    return logits if ops.dtype(logits) == "float64" else ops.cast(logits, "float32")
