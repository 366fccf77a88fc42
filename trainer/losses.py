"""Losses per example, on either backend."""

from __future__ import annotations

from typing import Any

from keras import ops


def cross_entropy(logits: Any, labels: Any, label_smoothing: float = 0.0, shares: Any = None) -> Any:
    """Softmax cross-entropy of each example.

    Args:
      logits: [n, classes]; bfloat16 is computed in float32.
      labels: integers [n] in [0, classes), or [n, k] with `shares`.
      label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
      shares: [n, k], how much of an example's target each of its labels is. They sum up to 1, or to 0 for an example that
        does not count.

    Returns:
      [n], float32, or float64 for float64 logits. The loss of a step is its sum divided by the global batch.
    """
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    log_probabilities = ops.log_softmax(logits, axis=-1)
    dtype = ops.dtype(logits)
    target = ops.one_hot(labels, logits.shape[-1], dtype=dtype)
    counts: Any = 1
    if shares is not None:
        shares = ops.cast(shares, dtype)
        target, counts = ops.sum(shares[..., None] * target, axis=1), ops.sum(shares, axis=1)
    loss = -ops.sum(target * log_probabilities, axis=-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * counts * ops.mean(log_probabilities, axis=-1)
    return loss


def right(logits: Any, labels: Any, shares: Any) -> Any:
    """bool [n]: whether the largest logit is that of the label with the largest share, for examples that count."""
    first = shares[:, 0] >= shares[:, 1]
    label = ops.where(first, labels[:, 0], labels[:, 1])
    guesses = ops.cast(ops.argmax(logits, axis=-1), ops.dtype(label))
    return ops.logical_and(guesses == label, ops.sum(shares, axis=1) > 0)
