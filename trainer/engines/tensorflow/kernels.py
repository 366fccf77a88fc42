"""BatchNormalization as one operation of TensorFlow's, which joins a ReLU that follows to it.

Keras has a dozen, and each reads or writes all activations in float32.
"""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from convoy.trainer.engines.normalization import Normalized

_COMPUTES = (tf.float32, tf.bfloat16, tf.float16)


def normalized(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> Normalized | None:
    """What a layer makes of images [n, h, w, c] in training; None of what this way cannot compute.

    Of 16-bit inputs the statistics are taken in float32, and the outputs have 16 bits, as with Keras.
    """
    plain = type(layer) is keras.layers.BatchNormalization and not layer.renorm and layer.axis in (3, -1)
    images = inputs.shape.rank == 4 and None not in inputs.shape and inputs.dtype in _COMPUTES
    if not (plain and images):
        return None
    channels, nothing = inputs.shape[-1], tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.cast(layer.gamma.value, tf.float32) if layer.scale else tf.ones([channels]),
        offset=tf.cast(layer.beta.value, tf.float32) if layer.center else tf.zeros([channels]),
        mean=nothing,
        variance=nothing,
        epsilon=layer.epsilon,
        is_training=True,
    )
    # The operation's variance is that of the population, divided by count - 1; Keras keeps the batch's, and so do we.
    count = math.prod(inputs.shape[:-1])
    return Normalized(outputs, tf.stop_gradient(mean), tf.stop_gradient(variance) * (max(count - 1, 1) / count))
