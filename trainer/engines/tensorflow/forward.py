"""A model's forward pass alone."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from convoy.trainer.engines.tensorflow.step import to_floats


def forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A function: images, uint8 [n, h, w, c] -> logits, floats [n, classes], as an evaluation computes them on one device."""

    @tf.function(autograph=False)
    def logits(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(to_floats(images), training=False), keras.config.floatx())

    return lambda images: logits(tf.constant(images)).numpy()
