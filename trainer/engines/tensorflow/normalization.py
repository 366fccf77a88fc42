"""BatchNormalization over all replicas, in one collective and without cancellation."""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

from convoy import exits


def synchronize(layer: keras.layers.BatchNormalization) -> None:
    """Makes a layer measure the global batch.

    Keras' own synchronized=True sends sum, sum of squares and count one by one, and takes the variance as E[x^2] - E[x]^2,
    which loses its digits where the mean is large.
    """
    layer._moments = functools.partial(_moments, layer)


def _moments(
    layer: keras.layers.BatchNormalization, inputs: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, variance) [channels] over every axis but the layer's, of all replicas together.

    Sums are taken of x - s with s the moving mean, the same on all replicas: close to the mean, so that
    E[(x-s)^2] - E[x-s]^2 subtracts a small number (the shifted-data algorithm, Chan et al. 1983).
    """
    if mask is not None:
        raise exits.CannotRun(f"the layer {layer.name} gets a mask, which is not built for several devices; use one.")
    channels = inputs.shape[layer.axis]
    shape = [1] * len(inputs.shape)
    shape[layer.axis] = channels
    shift = tf.stop_gradient(tf.cast(layer.moving_mean.value, inputs.dtype))
    shifted = inputs - tf.reshape(shift, shape)
    count = tf.cast(tf.size(inputs) // channels, inputs.dtype)
    axes = layer._reduction_axes
    sums = tf.concat([tf.reduce_sum(shifted, axes), tf.reduce_sum(tf.square(shifted), axes), [count]], axis=0)
    sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
    total, squares, count = tf.split(sums, [channels, channels, 1])
    mean = total / count
    return mean + shift, tf.maximum(squares / count - tf.square(mean), 0)
