"""Convolutions of --kernels=2 on JAX's CPU: XLA's numbers by other ways."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convoy.trainer.engines.jax import convolutions
from convoy.trainer.engines.jax.convolutions import convolution

RNG = np.random.default_rng(0)


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
