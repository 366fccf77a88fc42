"""What is computed on a CPU in place of XLA's own gradients: the same numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from convoy.trainer.engines.jax.kernels import convolution, max_pool

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def assert_gradients(ours, xlas, *inputs: np.ndarray) -> None:
    value, back = jax.vjp(ours, *inputs)
    expected, their_back = jax.vjp(xlas, *inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    gradient = numbers(*value.shape)
    for found, right in zip(back(gradient), their_back(gradient), strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("image", "padding"), [((9, 8), "SAME"), ((7, 11), "VALID")])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
def test_a_convolutions_gradients_are_xlas(image, kernel, strides, padding):
    images, weights = numbers(2, *image, 3), numbers(*kernel, 3, 4)
    pads = tuple(lax.padtype_to_pads(image, kernel, strides, padding))
    order = ("NHWC", "HWIO", "NHWC")
    assert_gradients(
        lambda x, w: convolution(strides, pads, x, w),
        lambda x, w: lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=order),
        images,
        weights,
    )


@pytest.mark.parametrize("size", [(2, 2), (3, 2)])
def test_max_poolings_gradient_is_xlas_also_where_pixels_are_equal(size):
    images = RNG.integers(0, 3, (2, 7, 8, 3)).astype(np.float32)
    window = (1, *size, 1)
    assert_gradients(
        lambda x: max_pool(size, x),
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID"),
        images,
    )
