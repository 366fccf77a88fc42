"""Cross-entropy against NumPy, exact sums, the best evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainer.losses import cross_entropy
from trainer.metrics import EvaluationSums
from trainer.progress import Progress

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(20, 7)) * 5, RNG.integers(0, 7, 20)


def reference(smoothing: float) -> np.ndarray:
    log_p = (
        LOGITS
        - np.log(np.exp(LOGITS - LOGITS.max(1, keepdims=True)).sum(1, keepdims=True))
        - LOGITS.max(1, keepdims=True)
    )
    target = np.eye(7)[LABELS] * (1 - smoothing) + smoothing / 7
    return -(target * log_p).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(smoothing):
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        loss = cross_entropy(tf.constant(LOGITS, dtype), tf.constant(LABELS), smoothing)
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss.numpy(), reference(smoothing), rtol=tolerance, atol=tolerance / 10)


def test_huge_and_bfloat16_logits_stay_finite():
    assert cross_entropy(tf.constant([[1e4, -1e4]]), tf.constant([1])).numpy() == pytest.approx([2e4])
    loss = cross_entropy(tf.cast(LOGITS, tf.bfloat16), tf.constant(LABELS))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss.numpy(), reference(0.0), rtol=0.05, atol=0.05)


def test_per_class_numbers():
    sums = EvaluationSums.zero(3)
    more = EvaluationSums(2.0, 4, 3, 4, np.array([2, 2, 0]), np.array([3, 1, 0]), np.array([2, 1, 0]))
    sums.add(more)
    assert sums.metrics() == {"loss": 0.5, "accuracy": 0.75}
    table = sums.per_class(("a", "b", "c"))
    assert table["a"] == {"count": 2, "recall": 1.0, "precision": pytest.approx(2 / 3)}
    assert table["b"] == {"count": 2, "recall": 0.5, "precision": 1.0}
    assert table["c"] == {"count": 0, "recall": None, "precision": None}


def test_the_best_is_by_accuracy_then_by_loss():
    progress = Progress()
    outcomes = [(0.8, 1.0), (0.8, 0.9), (0.8, 0.95), (0.7, 0.1), (0.9, 2.0)]
    assert [progress.better(s, {"accuracy": a, "loss": b}) for s, (a, b) in enumerate(outcomes)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert progress.best == {"step": 4, "loss": 2.0, "accuracy": 0.9}
    assert Progress.from_dict(progress.to_dict()) == progress
