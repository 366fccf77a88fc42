"""Convolutions and BatchNormalization of --kernels=2 on JAX's CPU: XLA's and Keras' numbers by other ways."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convoy.trainer.engines.jax import convolutions
from convoy.trainer.engines.jax.batch_normalization import batch_normalization
from convoy.trainer.engines.jax.convolutions import convolution

RNG = np.random.default_rng(0)
EPSILON = 1e-3


def numbers(*shape: int, dtype=np.float32) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), dtype)


def assert_equal(ours, expected, inputs, gradient, within: float) -> None:
    """The values of two functions and their gradients, up to a share of the largest."""

    def compute(function, inputs, gradient):
        value, back = jax.vjp(function, *inputs)
        return (value, *back(gradient.astype(value.dtype)))

    wide = [array.astype(jnp.float32) for array in inputs]
    rights = jax.jit(lambda *arrays: compute(expected, arrays, gradient))(*wide)
    values = jax.jit(lambda *arrays: compute(ours, arrays, gradient))(*inputs)
    for value, right in zip(values, rights, strict=True):
        assert np.abs(value.astype(np.float32) - right).max() <= within * max(np.abs(right).max(), 1e-3)


@pytest.mark.parametrize("window_bytes", [1, 2000, 1e9])  # an image at a time, two or three, all
@pytest.mark.parametrize(
    ("kernel", "strides", "padding"),
    [((3, 2), (1, 1), "SAME"), ((3, 2), (2, 2), "VALID"), ((1, 2), (3, 1), "SAME"), ((1, 1), (1, 1), "SAME")],
)
def test_a_convolutions_gradients_are_xlas_in_whatever_groups_of_images(
    monkeypatch, kernel, strides, padding, window_bytes
):
    monkeypatch.setattr(convolutions, "_WINDOW_BYTES", window_bytes)
    image, order = (5, 6), ("NHWC", "HWIO", "NHWC")
    pads = tuple(lax.padtype_to_pads(image, kernel, strides, padding))
    images, weights = numbers(6, *image, 3), numbers(*kernel, 3, 4)

    def xlas(images, weights):
        return lax.conv_general_dilated(images, weights, strides, padding, dimension_numbers=order)

    gradient = numbers(*jax.eval_shape(xlas, images, weights).shape)
    assert_equal(lambda x, w: convolution(strides, pads, x, w), xlas, [images, weights], gradient, 1e-5)
    short = [array.astype(jnp.bfloat16) for array in (images, weights)]
    assert_equal(lambda x, w: convolution(strides, pads, x, w), xlas, short, gradient, 2e-2)


@pytest.mark.parametrize(("dtype", "within"), [(np.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("shape", [(8, 5, 4, 6), (3, 1, 1, 2)])
def test_a_batch_is_normalized_as_keras_does_it(dtype, within, shape):
    images, gamma, beta = 2 + 3 * numbers(*shape), 1 + numbers(shape[3]), numbers(shape[3])

    def keras_own(images, gamma, beta):
        mean, variance = jnp.mean(images, (0, 1, 2)), jnp.var(images, (0, 1, 2))
        return (images - mean) * (lax.rsqrt(variance + EPSILON) * gamma) + beta

    def ours(images, gamma, beta):
        return batch_normalization(EPSILON, images, gamma, beta, shift=jnp.full(shape[3], 1.5))[0]

    inputs = [images.astype(dtype), gamma, beta]
    assert_equal(ours, keras_own, inputs, numbers(*shape), within)


def test_a_mean_far_from_zero_keeps_the_digits_of_the_variance():
    images = 1000 + numbers(8, 6, 6, 2)
    _, mean, variance = batch_normalization(EPSILON, images, jnp.ones(2), jnp.zeros(2), jnp.full(2, 1001.0))
    np.testing.assert_allclose(mean, np.mean(np.float64(images), (0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, np.var(np.float64(images), (0, 1, 2)), rtol=1e-4)
