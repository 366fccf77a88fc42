"""Winograd's convolutions of --kernels=3 on JAX's CPU: the numbers of a convolution in float64, where the rule says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from exact_convolution import exact
from jax import lax

from convoy.trainer.engines.jax import convolutions, winograd
from convoy.trainer.engines.jax.convolutions import winograd_or_not

ONE = (1, 1)


def padding_of(sides: tuple[int, int], padding: str) -> winograd.Padding:
    return tuple(lax.padtype_to_pads(sides, (3, 3), ONE, padding))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("sides", [(8, 8), (4, 4), (3, 5), (7, 7), (7, 10), (16, 16), (9, 13), (14, 30)])
def test_a_convolution_and_its_gradients_are_those_of_float64(sides, padding):
    random, pads = np.random.default_rng(0), padding_of(sides, padding)
    images, kernel = random.normal(size=(6, *sides, 5)), random.normal(size=(3, 3, 5, 7))
    sizes = [side + sum(pad) - 2 for side, pad in zip(sides, pads, strict=True)]
    gradient = random.normal(size=(6, *sizes, 7))

    @jax.jit
    def compute(images, kernel, gradient):
        outputs, back = jax.vjp(lambda *both: winograd.convolution(pads, *both), images, kernel)
        return [outputs, *back(gradient)]

    given = [jnp.asarray(array, np.float32) for array in (images, kernel, gradient)]
    values, again = compute(*given), compute(*given)
    for value, same, right in zip(values, again, exact(pads, images, kernel, gradient), strict=True):
        assert value.dtype == np.float32
        assert value.shape == right.shape
        assert np.sqrt(np.mean((value - right) ** 2)) <= 1e-5 * np.sqrt(np.mean(right**2))
        np.testing.assert_array_equal(value, same)


def test_16_bits_are_rounded_once():
    random, pads = np.random.default_rng(0), padding_of((8, 8), "SAME")
    given = [jnp.asarray(random.normal(size=size), jnp.bfloat16) for size in ((6, 8, 8, 5), (3, 3, 5, 7), (6, 8, 8, 7))]
    outputs, back = jax.vjp(lambda *both: winograd.convolution(pads, *both), *given[:2])
    wide = [np.asarray(array, np.float64) for array in given]
    for value, right in zip([outputs, *back(given[2])], exact(pads, *wide), strict=True):
        assert value.dtype == jnp.bfloat16
        assert np.abs(np.asarray(value, np.float64) - right).max() <= 2**-8 * np.abs(right).max()


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding", "dtype", "ahead"),
    [
        ((128, 32, 32, 64), (3, 3, 64), 1, "SAME", "float32", True),
        ((4, 7, 7, 512), (3, 3, 512), 1, "SAME", "float32", True),
        ((32, 16, 16, 128), (3, 3, 64), 1, "VALID", "float32", True),
        ((128, 32, 32, 32), (3, 3, 64), 1, "SAME", "float32", False),  # few channels
        ((1, 7, 7, 512), (3, 3, 512), 1, "SAME", "float32", False),  # few tiles
        ((128, 4, 4, 64), (3, 3, 64), 1, "VALID", "float32", False),  # a tile reaches far beyond the outputs
        ((128, 32, 32, 64), (3, 3, 64), 2, "SAME", "float32", False),
        ((128, 32, 32, 64), (5, 5, 64), 1, "SAME", "float32", False),
        ((128, 32, 32, 64), (1, 1, 64), 1, "SAME", "float32", False),
        ((128, 32, 32, 64), (3, 3, 64), 1, "SAME", "bfloat16", True),
        ((128, 32, 32, 64), (3, 3, 64), 1, "SAME", "float64", False),
    ],
)
def test_the_rule(images, kernel, strides, padding, dtype, ahead):
    steps = (strides, strides)
    pads = tuple(lax.padtype_to_pads(images[1:3], kernel[:2], steps, padding))
    arrays = [np.empty(shape, jnp.dtype(dtype)) for shape in (images, (*kernel[:2], images[3], kernel[2]))]
    assert winograd.applies(steps, pads, *arrays) == ahead


@pytest.mark.parametrize("winograds", [False, True])
def test_layers_use_it_in_generation_3_only(winograds):
    layer = keras.layers.Conv2D(64, 3, padding="same")
    convolutions.install(keras.Sequential([keras.Input((8, 8, 64)), layer]), winograds)
    random = np.random.default_rng(0)
    images, kernel = (jnp.asarray(random.normal(size=size), np.float32) for size in ((8, 8, 8, 64), (3, 3, 64, 64)))
    way = winograd_or_not if winograds else convolutions.convolution
    np.testing.assert_array_equal(
        layer.convolution_op(images, kernel), way(ONE, padding_of((8, 8), "SAME"), images, kernel)
    )
    program = str(jax.make_jaxpr(layer.convolution_op)(images, kernel))
    assert ("conv_general_dilated" in program) != winograds
