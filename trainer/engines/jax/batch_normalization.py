"""BatchNormalization on a CPU in four passes over its inputs or their gradient: Keras and XLA's own gradient make a dozen."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from convoy.trainer.engines.normalization import Normalized

_IMAGE_AXES = (1, 2)


def normalized(layer: keras.layers.BatchNormalization, inputs: jax.Array) -> Normalized | None:
    """What a layer makes of images [n, h, w, c] in training; None of what this way cannot compute.

    Of 16-bit inputs the statistics are taken in float32, and the outputs have 16 bits, as with Keras.
    """
    own = type(layer) is not keras.layers.BatchNormalization or layer.renorm
    if own or len(inputs.shape) != 4 or layer.axis not in (3, -1):
        return None
    dtype, channels = jnp.promote_types(inputs.dtype, np.float32), inputs.shape[3]
    gamma = jnp.asarray(layer.gamma, dtype) if layer.scale else jnp.ones(channels, dtype)
    beta = jnp.asarray(layer.beta, dtype) if layer.center else jnp.zeros(channels, dtype)
    outputs, mean, variance = batch_normalization(
        layer.epsilon, inputs, gamma, beta, jnp.asarray(layer.moving_mean, dtype)
    )
    return Normalized(outputs.astype(layer.compute_dtype), lax.stop_gradient(mean), lax.stop_gradient(variance))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def batch_normalization(
    epsilon: float, images: jax.Array, gamma: jax.Array, beta: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(outputs, mean, variance); gradients are taken of the outputs only."""
    return _forward(epsilon, images, gamma, beta, shift)[0]


def _averages(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two averages [channels] in one pass. XLA shares a reduction among cores by what it keeps, so images are kept apart."""
    zero = np.zeros((), first.dtype)
    sums = lax.reduce((first, second), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), _IMAGE_AXES)
    count = first.size // first.shape[3]
    return jnp.sum(sums[0], 0) / count, jnp.sum(sums[1], 0) / count


def _forward(
    epsilon: float, images: jax.Array, gamma: jax.Array, beta: jax.Array, shift: jax.Array
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    # Less the moving mean, for the digits of a variance that is a difference (see normalization.py).
    shifted = images.astype(shift.dtype) - shift
    mean, square = _averages(shifted, jnp.square(shifted))
    variance = jnp.maximum(square - jnp.square(mean), 0)
    mean += shift
    inverse = lax.rsqrt(variance + epsilon)
    outputs = images.astype(shift.dtype) * (inverse * gamma) + (beta - mean * inverse * gamma)
    return (outputs.astype(images.dtype), mean, variance), (images, gamma, mean, inverse)


def _backward(
    epsilon: float, saved: tuple[jax.Array, ...], gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    images, gamma, mean, inverse = saved
    gradient, centred = gradients[0].astype(mean.dtype), images.astype(mean.dtype) - mean
    average, slope = _averages(gradient, gradient * centred)
    count = images.size // images.shape[3]
    of_images = (gradient - average - centred * (jnp.square(inverse) * slope)) * (gamma * inverse)
    return of_images.astype(images.dtype), slope * inverse * count, average * count, jnp.zeros_like(mean)


batch_normalization.defvjp(_forward, _backward)
