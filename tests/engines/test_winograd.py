"""Winograd's convolutions of --kernels=3 on TensorFlow: the numbers of a convolution in float64, where the rule says so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from exact_convolution import exact

from convoy.trainer.engines.tensorflow import convolutions, winograd

PADS = {"SAME": ((1, 1), (1, 1)), "VALID": ((0, 0), (0, 0))}


def outputs_and_gradients(images, kernel, of_outputs, **options):
    with tf.GradientTape() as tape:
        tape.watch([images, kernel])
        outputs = winograd.convolution(images, kernel, tuple(of_outputs.shape[1:3]), **options)
    return [outputs, *tape.gradient(outputs, [images, kernel], of_outputs)]


def numbers(sides: tuple[int, int], padding: str) -> list[np.ndarray]:
    """Images, kernel, and gradient of the outputs."""
    random, lost = np.random.default_rng(0), 0 if padding == "SAME" else 2
    shapes = (6, *sides, 5), (3, 3, 5, 7), (6, *(side - lost for side in sides), 7)
    return [random.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("sides", [(8, 8), (4, 4), (3, 5), (7, 7), (7, 10), (16, 16), (9, 13), (14, 30)])
def test_a_convolution_and_its_gradients_are_those_of_float64(sides, padding, in_order):
    given = numbers(sides, padding)
    compute = tf.function(outputs_and_gradients, autograph=False)
    single = [tf.constant(array, tf.float32) for array in given]
    values, again = compute(*single, in_order=in_order), compute(*single, in_order=in_order)
    for value, same, right in zip(values, again, exact(PADS[padding], *given), strict=True):
        assert value.dtype == tf.float32
        assert value.shape == right.shape
        assert np.sqrt(np.mean((value - right) ** 2)) <= 1e-5 * np.sqrt(np.mean(right**2))
        np.testing.assert_array_equal(value, same)


def test_16_bits_are_rounded_once():
    given = [tf.cast(array, tf.bfloat16) for array in numbers((8, 8), "SAME")]
    wide = [tf.cast(array, tf.float64).numpy() for array in given]
    for value, right in zip(outputs_and_gradients(*given), exact(PADS["SAME"], *wide), strict=True):
        assert value.dtype == tf.bfloat16
        assert np.abs(tf.cast(value, tf.float64) - right).max() <= 2**-8 * np.abs(right).max()


def test_parts_of_a_batch_make_the_whole():
    images, kernel, of_outputs = (tf.constant(array, tf.float32) for array in numbers((12, 9), "SAME"))
    whole = outputs_and_gradients(images, kernel, of_outputs)
    parts = [outputs_and_gradients(images[part], kernel, of_outputs[part]) for part in (slice(2), slice(2, 6))]
    for index, join in ((0, tf.concat), (1, tf.concat), (2, lambda kernels, _: tf.add_n(kernels))):
        value = join([part[index] for part in parts], 0)
        np.testing.assert_allclose(value, whole[index], rtol=0, atol=1e-6 * np.abs(whole[index]).max())


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding", "dtype", "ahead"),
    [
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "float32", True),
        ((2, 32, 32, 128), (3, 3, 256), 1, "VALID", "float32", True),
        ((32, 14, 14, 64), (3, 3, 128), 1, "SAME", "float32", False),  # few channels
        ((8, 7, 7, 512), (3, 3, 512), 1, "SAME", "float32", False),  # few tiles
        ((128, 5, 5, 256), (3, 3, 256), 1, "SAME", "float32", False),  # a tile reaches far beyond the outputs
        ((128, 16, 16, 128), (3, 3, 128), 2, "SAME", "float32", False),
        ((128, 16, 16, 128), (5, 5, 128), 1, "SAME", "float32", False),
        ((128, 8, 8, 256), (3, 3, 256), 1, "SAME", "bfloat16", True),
        ((128, 7, 7, 512), (3, 3, 512), 1, "SAME", "bfloat16", False),
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "bfloat16", False),
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "float16", False),
        ((128, 16, 16, 128), (3, 3, 128), 1, "SAME", "float64", False),
    ],
)
def test_the_rule(images, kernel, strides, padding, dtype, ahead):
    specs = [tf.TensorSpec(shape, dtype) for shape in (images, (*kernel[:2], images[3], kernel[2]))]
    steps = (strides, strides)
    assert winograd.applies(*specs, steps, convolutions._output_sizes(*specs, steps, padding)) == ahead


@pytest.mark.parametrize("generation", [2, 3])
def test_layers_use_it_in_generation_3_only(generation):
    layer = keras.layers.Conv2D(128, 3, padding="same")
    convolutions.install(keras.Sequential([keras.Input((8, 8, 128)), layer]), in_order=False, generation=generation)
    given = [tf.TensorSpec(shape, tf.float32) for shape in ((16, 8, 8, 128), (3, 3, 128, 128))]
    function = tf.function(layer.convolution_op, autograph=False).get_concrete_function(*given)
    assert any(operation.type == "Conv2D" for operation in function.graph.get_operations()) == (generation < 3)
