"""A moving average of the weights, and its use in place of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


class Average:
    """Variables that hold an average of `weights`; TrainingStep.average keeps it up."""

    def __init__(self, weights: list[keras.Variable]):
        self.weights = weights
        # From NumPy: a Keras variable made from a TensorFlow variable shares it.
        self.variables = [
            keras.Variable(weight.numpy(), trainable=False, dtype=weight.dtype, name="average") for weight in weights
        ]

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
        pairs = list(zip(self.variables, self.weights, strict=True))
        values = [(tf.identity(average.value), tf.identity(weight.value)) for average, weight in pairs]
        # All read before any is written.
        with tf.control_dependencies([tensor for pair in values for tensor in pair]):
            for (average, weight), (average_value, weight_value) in zip(pairs, values, strict=True):
                average.assign(weight_value)
                weight.assign(average_value)
