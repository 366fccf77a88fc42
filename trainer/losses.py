"""Losses per example, on either backend."""

from __future__ import annotations

from typing import Any

from keras import ops


def cross_entropy(logits: Any, labels: Any, label_smoothing: float = 0.0) -> Any:
    """Softmax cross-entropy of each example.

    Args:
      logits: [n, classes]; bfloat16 is computed in float32.
      labels: integers [n] in [0, classes).
      label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Returns:
      [n], float32, or float64 for float64 logits. The loss of a step is its sum divided by the global batch.
    """
    if ops.dtype(logits) != "float64":
        logits = ops.cast(logits, "float32")
    log_probabilities = ops.log_softmax(logits, axis=-1)
    target = ops.one_hot(labels, logits.shape[-1], dtype=ops.dtype(logits))
    loss = -ops.sum(target * log_probabilities, axis=-1)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * ops.mean(log_probabilities, axis=-1)
    return loss
