"""BatchNormalization as one operation of TensorFlow's: Keras' numbers, by fewer operations."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from convoy.trainer.engines import normalization
from convoy.trainer.engines.tensorflow import kernels
from convoy.trainer.flags.specs import BatchNormSpec

RNG = np.random.default_rng(0)


def layer_pair(shape, **options):
    """A layer as Keras computes it, and the same by one operation."""
    options = {"momentum": 0.9, "gamma_initializer": "glorot_uniform", "beta_initializer": "normal"} | options
    theirs, ours = (keras.layers.BatchNormalization(**options) for _ in range(2))
    for layer in (theirs, ours):
        layer.build(shape)
    ours.set_weights(theirs.get_weights())
    install(ours)
    return theirs, ours


def install(layer):
    model = keras.Sequential([layer])
    normalization.install(model, BatchNormSpec.parse("sync"), lambda tensor: tensor, 1, (), kernels.normalized)


def outputs_and_gradients(layer, images, of_outputs):
    @tf.function(autograph=False)
    def step():
        weights = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch([images, *weights])
            outputs = layer(images, training=True)
        return outputs, tape.gradient(outputs, [images, *weights], of_outputs)

    outputs, gradients = step()
    names = {node.op for node in step.get_concrete_function().graph.as_graph_def().node}
    return [outputs, *gradients, *layer.non_trainable_variables], names


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 1e-5}])
@pytest.mark.parametrize("shape", [(8, 5, 4, 6), (1, 1, 1, 3)])
def test_one_operation_computes_what_keras_does(dtype, options, shape):
    theirs, ours = layer_pair(shape, dtype=dtype, **options)
    kind = keras.DTypePolicy(dtype).compute_dtype
    images = tf.cast(RNG.normal(size=shape) * 3 + 2, kind)
    of_outputs = tf.cast(RNG.normal(size=shape), kind)
    expected, _ = outputs_and_gradients(theirs, images, of_outputs)
    found, names = outputs_and_gradients(ours, images, of_outputs)
    assert "FusedBatchNormV3" in names
    assert not names & {"SquaredDifference", "Mean", "Rsqrt"}
    within = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}[kind]
    for ours_now, right in zip(found, expected, strict=True):
        assert ours_now.dtype == right.dtype
        values, rights = np.float64(ours_now), np.float64(right)
        # A batch of one number has no spread: the variance that is 0 makes of rounding what it will.
        if max(shape[:-1]) > 1:
            assert np.abs(values - rights).max() <= within * max(np.abs(rights).max(), 1e-3)
        assert np.isfinite(values).all()


def test_what_it_cannot_compute_stays_keras():
    for shape, options in (((4, 6), {}), ((4, 6, 5, 3), {"axis": 1}), ((4, 3, 2, 3), {"dtype": "float64"})):
        theirs, ours = layer_pair(shape, **options)
        images = tf.cast(RNG.normal(size=shape), options.get("dtype", "float32"))
        expected, _ = outputs_and_gradients(theirs, images, images)
        found, names = outputs_and_gradients(ours, images, images)
        assert "FusedBatchNormV3" not in names
        for ours_now, right in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours_now, right)


def test_the_own_call_of_a_subclass_stays():
    class Doubled(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    layer = Doubled()
    layer.build((4, 3, 2, 3))
    images = tf.constant(RNG.normal(size=(4, 3, 2, 3)), tf.float32)
    expected = layer(images, training=True)
    install(layer)
    np.testing.assert_allclose(layer(images, training=True), expected, rtol=1e-6)
