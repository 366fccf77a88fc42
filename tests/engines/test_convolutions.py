"""Gradients of kernels as matrix products on TensorFlow: TensorFlow's own numbers, where the rule says so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from convoy.trainer.engines.tensorflow import convolutions

RNG = np.random.default_rng(0)


def numbers(*shape: int, dtype: str = "float32") -> tf.Tensor:
    return tf.cast(RNG.normal(size=shape), dtype)


@pytest.mark.parametrize(("image", "padding"), [((9, 8), "SAME"), ((7, 11), "VALID")])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("products", [True, False])
def test_gradients_are_tensorflows(image, window, strides, padding, products):
    images, kernel = numbers(2, *image, 3), numbers(*window, 3, 4)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([images, kernel])
        ours = convolutions.convolution(images, kernel, strides, padding, products, in_order=True)
        theirs = tf.nn.conv2d(images, kernel, strides, padding)
    np.testing.assert_array_equal(ours, theirs)
    of_outputs = numbers(*ours.shape)
    found = tape.gradient(ours, [images, kernel], of_outputs)
    for gradient, right in zip(found, tape.gradient(theirs, [images, kernel], of_outputs), strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "window", "outputs", "stride", "dtype", "expected"),
    [
        ((32, 56, 56, 64), 1, 256, 1, "float32", True),
        ((32, 56, 56, 64), 1, 256, 2, "float32", False),
        ((128, 4, 4, 512), 3, 512, 1, "float32", False),
        ((128, 4, 4, 512), 3, 512, 1, "bfloat16", True),
        ((128, 8, 8, 256), 3, 512, 2, "bfloat16", True),
        ((128, 16, 16, 128), 3, 128, 1, "bfloat16", False),
        ((32, 14, 14, 256), 1, 1024, 1, "bfloat16", True),
        ((32, 56, 56, 64), 1, 256, 1, "bfloat16", False),
        ((32, 14, 14, 256), 1, 1024, 1, "float64", False),
    ],
)
@pytest.mark.parametrize("generation", [2, 3])
def test_products_where_they_are_ahead(shape, window, outputs, stride, dtype, expected, generation):
    images, kernel = tf.TensorSpec(shape, dtype), tf.TensorSpec((window, window, shape[-1], outputs), dtype)
    assert convolutions.by_products(images, kernel, (stride, stride), "SAME", generation) == expected


@pytest.mark.parametrize(
    ("window", "channels", "stride", "generation", "expected"),
    [(3, 128, 2, 3, True), (3, 128, 2, 2, False), (3, 64, 2, 3, False), (1, 128, 2, 3, False)],
)
def test_products_of_strided_windows(window, channels, stride, generation, expected):
    images, kernel = tf.TensorSpec((8, 16, 16, channels)), tf.TensorSpec((window, window, channels, 128))
    assert convolutions.by_products(images, kernel, (stride, stride), "SAME", generation) == expected


def test_layers_keep_bias_and_activation_and_others_stay():
    def network():
        keras.utils.set_random_seed(3)
        image = keras.Input((8, 8, 4))
        x = keras.layers.Conv2D(6, 1, activation="relu", bias_initializer="normal", name="pointwise")(image)
        x = keras.layers.Conv2D(6, 3, padding="same", dilation_rate=2, name="dilated")(x)
        return keras.Model(image, keras.layers.Conv2D(4, 1, groups=2, name="grouped")(x))

    theirs, ours = network(), network()
    convolutions.install(ours, in_order=False, generation=3)
    assert [layer.name for layer in ours.layers if "convolution_op" in vars(layer)] == ["pointwise"]
    images = numbers(2, 8, 8, 4)

    @tf.function(autograph=False)
    def gradients(model):
        weights = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_sum(tf.square(model(images, training=True)))
        return tape.gradient(loss, weights)

    for gradient, right in zip(gradients(ours), gradients(theirs), strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-4, atol=1e-4)
    graphs = [gradients.get_concrete_function(model).graph.as_graph_def() for model in (ours, theirs)]
    counts = [sum(node.op == "Conv2DBackpropFilter" for node in graph.node) for graph in graphs]
    assert counts[0] == counts[1] - 1
