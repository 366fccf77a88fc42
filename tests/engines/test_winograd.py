"""Winograd's convolutions of --kernels=3 on both engines: the numbers of a convolution in float64, where the rules say so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
from exact_convolution import exact
from jax import lax

from convoy.trainer.engines.jax import convolutions as jax_convolutions
from convoy.trainer.engines.jax import winograd as jax_winograd
from convoy.trainer.engines.tensorflow import convolutions, winograd

PADS = {"SAME": ((1, 1), (1, 1)), "VALID": ((0, 0), (0, 0))}


@tf.function(autograph=False)
def of_tensorflow(images, kernel, of_outputs, in_order):
    with tf.GradientTape() as tape:
        tape.watch([images, kernel])
        outputs = winograd.convolution(images, kernel, tuple(of_outputs.shape[1:3]), in_order)
    return [outputs, *tape.gradient(outputs, [images, kernel], of_outputs)]


@jax.jit
def of_jax(images, kernel, of_outputs):
    padding = PADS["SAME" if images.shape[1] == of_outputs.shape[1] else "VALID"]
    outputs, back = jax.vjp(lambda *both: jax_winograd.convolution(padding, *both), images, kernel)
    return [outputs, *back(of_outputs)]


WAYS = {
    "tensorflow": (tf.cast, lambda *given: of_tensorflow(*given, in_order=False)),
    "tensorflow, in order": (tf.cast, lambda *given: of_tensorflow(*given, in_order=True)),
    "jax": (jnp.asarray, of_jax),
}


def numbers(sides: tuple[int, int], padding: str) -> list[np.ndarray]:
    """Images, kernel, and gradient of the outputs."""
    random, lost = np.random.default_rng(0), 0 if padding == "SAME" else 2
    shapes = (6, *sides, 5), (3, 3, 5, 7), (6, *(side - lost for side in sides), 7)
    return [random.normal(size=shape) for shape in shapes]


@pytest.fixture(params=WAYS)
def way(request):
    """(numbers, type) -> arrays; images, kernel, gradient of outputs -> outputs, gradients of images and kernel."""
    return WAYS[request.param]


@pytest.mark.parametrize("padding", PADS)
@pytest.mark.parametrize("sides", [(8, 8), (4, 4), (3, 5), (7, 7), (7, 10), (16, 16), (9, 13), (14, 30)])
def test_a_convolution_and_its_gradients_are_those_of_float64(way, sides, padding):
    arrays_of, compute = way
    given = numbers(sides, padding)
    single = [arrays_of(array, "float32") for array in given]
    for value, again, right in zip(compute(*single), compute(*single), exact(PADS[padding], *given), strict=True):
        assert value.dtype == "float32"
        assert value.shape == right.shape
        assert np.sqrt(np.mean((value - right) ** 2)) <= 1e-5 * np.sqrt(np.mean(right**2))
        np.testing.assert_array_equal(value, again)


def test_16_bits_are_rounded_once(way):
    arrays_of, compute = way
    given = [arrays_of(array, "bfloat16") for array in numbers((8, 8), "SAME")]
    wide = [np.asarray(array).astype(np.float64) for array in given]
    for value, right in zip(compute(*given), exact(PADS["SAME"], *wide), strict=True):
        assert value.dtype == "bfloat16"
        assert np.abs(np.asarray(value).astype(np.float64) - right).max() <= 2**-8 * np.abs(right).max()


def test_parts_of_a_batch_make_the_whole(way):
    arrays_of, compute = way
    images, kernel, of_outputs = (arrays_of(array, "float32") for array in numbers((12, 9), "SAME"))
    *whole, of_kernel = map(np.asarray, compute(images, kernel, of_outputs))
    parts = [compute(images[part], kernel, of_outputs[part]) for part in (slice(2), slice(2, 6))]
    joined = [np.concatenate([part[index] for part in parts]) for index in (0, 1)]
    for value, right in zip([*joined, parts[0][2] + parts[1][2]], [*whole, of_kernel], strict=True):
        np.testing.assert_allclose(value, right, rtol=0, atol=1e-6 * np.abs(right).max())


BOTH, NONE, JAX = {"tensorflow", "jax"}, set(), {"jax"}


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding", "dtype", "ahead"),
    [
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "float32", BOTH),
        ((2, 32, 32, 128), (3, 3, 256), 1, "VALID", "float32", BOTH),
        ((32, 14, 14, 64), (3, 3, 128), 1, "SAME", "float32", JAX),  # few channels
        ((32, 16, 16, 128), (3, 3, 64), 1, "VALID", "float32", JAX),
        ((128, 32, 32, 32), (3, 3, 64), 1, "SAME", "float32", NONE),
        ((8, 7, 7, 512), (3, 3, 512), 1, "SAME", "float32", JAX),  # few tiles
        ((1, 7, 7, 512), (3, 3, 512), 1, "SAME", "float32", NONE),
        ((128, 5, 5, 256), (3, 3, 256), 1, "SAME", "float32", JAX),  # a tile reaches far beyond the outputs
        ((128, 4, 4, 128), (3, 3, 128), 1, "VALID", "float32", NONE),
        ((128, 16, 16, 128), (3, 3, 128), 2, "SAME", "float32", NONE),
        ((128, 16, 16, 128), (5, 5, 128), 1, "SAME", "float32", NONE),
        ((128, 16, 16, 128), (1, 1, 128), 1, "SAME", "float32", NONE),
        ((128, 8, 8, 256), (3, 3, 256), 1, "SAME", "bfloat16", BOTH),
        ((128, 7, 7, 512), (3, 3, 512), 1, "SAME", "bfloat16", JAX),
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "bfloat16", JAX),
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "float64", NONE),
    ],
)
def test_the_rules(images, kernel, strides, padding, dtype, ahead):
    steps, shapes = (strides, strides), (images, (*kernel[:2], images[3], kernel[2]))
    specs = [tf.TensorSpec(shape, dtype) for shape in shapes]
    structs = [jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape in shapes]
    pads = tuple(lax.padtype_to_pads(images[1:3], kernel[:2], steps, padding))
    found = {
        "tensorflow": winograd.applies(*specs, steps, convolutions._output_sizes(*specs, steps, padding)),
        "jax": jax_winograd.applies(steps, pads, *structs),
    }
    assert {engine for engine, applies in found.items() if applies} == ahead


@pytest.mark.parametrize("generation", [2, 3])
def test_layers_of_tensorflow_use_it_in_generation_3_only(generation):
    layer = keras.layers.Conv2D(128, 3, padding="same")
    convolutions.install(keras.Sequential([keras.Input((8, 8, 128)), layer]), in_order=False, generation=generation)
    given = [tf.TensorSpec(shape, tf.float32) for shape in ((16, 8, 8, 128), (3, 3, 128, 128))]
    function = tf.function(layer.convolution_op, autograph=False).get_concrete_function(*given)
    convolves = any(operation.type == "Conv2D" for operation in function.graph.get_operations())
    assert convolves == (generation < 3)


@pytest.mark.parametrize("winograds", [False, True])
def test_layers_of_jax_use_it_where_they_are_told(winograds):
    layer = keras.layers.Conv2D(64, 3, padding="same")
    jax_convolutions.install(keras.Sequential([keras.Input((8, 8, 64)), layer]), winograds)
    given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((8, 8, 8, 64), (3, 3, 64, 64))]
    assert ("conv_general_dilated" in str(jax.make_jaxpr(layer.convolution_op)(*given))) != winograds
