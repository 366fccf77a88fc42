"""A moving average of the weights, and its use in place of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


class Average:
    """average <- d * average + (1 - d) * weights after every step, with d = min(decay, (1 + t) / (10 + t)) at step t.

    The smaller decay at the start keeps the initial weights from lingering (tf.train.ExponentialMovingAverage,
    num_updates).
    """

    def __init__(self, weights: list[keras.Variable], decay: float):
        self.decay, self.weights = decay, weights
        # From NumPy: a Keras variable made from a TensorFlow variable shares it.
        self.variables = [
            keras.Variable(weight.numpy(), trainable=False, dtype=weight.dtype, name="average")
            for weight in self.weights
        ]

    def update(self, step: tf.Tensor) -> None:
        """In the graph, after update number `step` (counted from 0)."""
        for average, weight in zip(self.variables, self.weights, strict=True):
            t = tf.cast(step, weight.dtype)
            decay = tf.minimum(tf.cast(self.decay, weight.dtype), (1 + t) / (10 + t))
            # One fused kernel for average - (1 - d) * (average - weight): three passes over memory cost a third of the
            # speed of a small network.
            tf.raw_ops.ResourceApplyGradientDescent(
                var=average.value.handle, alpha=1 - decay, delta=average.value - weight.value
            )

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @tf.function(autograph=False)
    def _exchange(self) -> None:
        # All read before any is written.
        pairs = [
            (tf.identity(a.value), tf.identity(w.value)) for a, w in zip(self.variables, self.weights, strict=True)
        ]
        with tf.control_dependencies([tensor for pair in pairs for tensor in pair]):
            for average, weight, (a, w) in zip(self.variables, self.weights, pairs, strict=True):
                average.assign(w)
                weight.assign(a)
