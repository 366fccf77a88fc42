"""Changes made to Keras and TensorFlow from outside: what each does, and the sentence where its target has changed."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src import backend
from keras.src.backend.common import dtypes
from keras.src.models import functional
from keras.src.ops.operation import Operation
from tensorflow.python.data.ops import multi_device_iterator_ops
from tensorflow.python.util import _pywrap_util_port

from convoy import exits
from convoy.trainer.engines import patches

IMAGES = np.ones((1, 4, 4, 2), np.float32)


def of_another_form(*args, something_new):
    """What a later version might have in place of a function that is patched."""


def one_layer():
    image = keras.Input((4, 4, 2))
    return keras.Model(image, keras.layers.ReLU()(image))


# What the patch needs, and a call of the patch.
PATCHES = {
    "BatchNormalization._moments": (
        (keras.layers.BatchNormalization, "_moments"),
        lambda: patches.replace_moments(keras.layers.BatchNormalization(), lambda inputs, mask: (0, 1)),
    ),
    "BatchNormalization.call": (
        (keras.layers.BatchNormalization, "call"),
        lambda: patches.replace_normalization(keras.layers.BatchNormalization(), lambda inputs: inputs),
    ),
    "nn.relu": (
        (backend.nn, "relu"),
        lambda: patches.relu_by(lambda values: values).__enter__(),
    ),
    "MaxPooling2D.call": (
        (keras.layers.MaxPooling2D, "call"),
        lambda: patches.replace_pooling(keras.layers.MaxPooling2D(), lambda inputs: inputs),
    ),
    "Conv2D.convolution_op": (
        (keras.layers.Conv2D, "convolution_op"),
        lambda: patches.replace_convolution(keras.layers.Conv2D(2, 3), lambda inputs, kernel: inputs),
    ),
    "DepthwiseConv2D.call": (
        (keras.layers.DepthwiseConv2D, "call"),
        lambda: patches.replace_depthwise(keras.layers.DepthwiseConv2D(3), lambda inputs: inputs),
    ),
    "SeparableConv2D.call": (
        (keras.layers.SeparableConv2D, "call"),
        lambda: patches.replace_separable(keras.layers.SeparableConv2D(2, 3), lambda inputs: inputs),
    ),
    "SGD._all_reduce_sum_gradients": (
        (keras.optimizers.Optimizer, "_all_reduce_sum_gradients"),
        lambda: patches.apply_gradients_as_they_are(keras.optimizers.SGD()),
    ),
    "SGD.update_step": (
        (keras.optimizers.SGD, "update_step"),
        lambda: patches.replace_update(keras.optimizers.SGD(), print),
    ),
    "SGD._apply_weight_decay": (
        (keras.optimizers.SGD, "_apply_weight_decay"),
        lambda: patches.replace_update(keras.optimizers.SGD(), print),
    ),
    "Optimizer._use_weight_decay": (
        (keras.optimizers.Optimizer, "_use_weight_decay"),
        lambda: patches.replace_update(keras.optimizers.SGD(), print),
    ),
    "SGD._backend_apply_gradients": (
        (keras.optimizers.SGD, "_backend_apply_gradients"),
        lambda: patches.after_updates(keras.optimizers.SGD(), print),
    ),
    "SeedGenerator.next": (
        (keras.random.SeedGenerator, "next"),
        lambda: patches.shift_seeds(keras.random.SeedGenerator(1), lambda seed: seed),
    ),
    "random.dropout": (
        (backend.random, "dropout"),
        lambda: patches.draw_through({"dropout": lambda original: original}),
    ),
    "Operation.call": (
        (Operation, "call"),
        lambda: patches.observed_calls(one_layer(), print).__enter__(),
    ),
    "StatelessScope.add_update": (
        (keras.StatelessScope, "add_update"),
        lambda: patches.observed_updates(print).__enter__(),
    ),
    "Variable._initialize_with_initializer": (
        (backend.Variable, "_initialize_with_initializer"),
        lambda: patches.first_weights(1).__enter__(),
    ),
    "random.truncated_normal": (
        (backend.random, "truncated_normal"),
        lambda: patches.first_weights(1).__enter__(),
    ),
    "Orthogonal.__call__": (
        (keras.initializers.Orthogonal, "__call__"),
        lambda: patches.first_weights(1).__enter__(),
    ),
    "Functional.call": (
        (functional.Functional, "call"),
        lambda: patches.run_in_training(one_layer(), print),
    ),
    "Functional._standardize_inputs": (
        (functional.Functional, "_standardize_inputs"),
        lambda: patches.run_in_training(one_layer(), print),
    ),
    "functional.operation_fn": (
        (functional, "operation_fn"),
        lambda: patches.run_in_training(one_layer(), print),
    ),
    "AutocastScope": (
        (backend, "AutocastScope"),
        patches.uncast,
    ),
    "_create_device_dataset": (
        (multi_device_iterator_ops, "_create_device_dataset"),
        lambda: patches.device_datasets(lambda dataset: dataset).__enter__(),
    ),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_target_of_another_form_is_refused_with_the_version(monkeypatch, name):
    (owner, attribute), patch = PATCHES[name]
    library = "TensorFlow" if owner is multi_device_iterator_ops else "Keras"
    version = (tf if library == "TensorFlow" else keras).__version__
    monkeypatch.setattr(owner, attribute, of_another_form)
    with pytest.raises(exits.CannotRun, match=rf"{attribute}\(.* which {library} {version} does not have in that form"):
        patch()


def test_a_target_that_is_gone_is_refused(monkeypatch):
    monkeypatch.delattr(dtypes, "BIT64_TO_BIT32_DTYPE")
    with pytest.raises(exits.CannotRun, match="BIT64_TO_BIT32_DTYPE of Keras"):
        patches.compute_in_float64(True)
    with pytest.raises(exits.CannotRun, match=r"\._nodes_by_depth of Keras"):
        patches.nodes_of(types.SimpleNamespace())
    with pytest.raises(exits.CannotRun, match=r"\._aggregation of TensorFlow"):
        patches.assign_without_aggregation(types.SimpleNamespace(value=object()))
    monkeypatch.delattr(_pywrap_util_port, "IsMklEnabled")
    with pytest.raises(exits.CannotRun, match=r"\.IsMklEnabled of TensorFlow"):
        patches.computes_with_onednn()


def test_float64_is_computed_in_float64_where_it_is_allowed(monkeypatch):
    monkeypatch.setattr(dtypes, "BIT64_TO_BIT32_DTYPE", dict(dtypes.BIT64_TO_BIT32_DTYPE))
    for allowed, expected in ((True, "float64"), (False, "float32")):
        patches.compute_in_float64(allowed)
        assert dtypes.BIT64_TO_BIT32_DTYPE["float64"] == expected


def test_a_layer_computes_what_it_was_given_and_others_stay_as_they_were():
    normalization, other = keras.layers.BatchNormalization(epsilon=0.0), keras.layers.BatchNormalization(epsilon=0.0)
    patches.replace_moments(normalization, lambda inputs, mask: (keras.ops.zeros(2), keras.ops.full((2,), 4.0)))
    np.testing.assert_array_equal(normalization(IMAGES, training=True), IMAGES / 2)
    np.testing.assert_array_equal(other(IMAGES, training=False), IMAGES)
    patches.replace_normalization(other, lambda inputs, training=None, mask=None: 3 * inputs)
    np.testing.assert_array_equal(other(IMAGES, training=True), 3 * IMAGES)
    pooling, convolution = keras.layers.MaxPooling2D(2), keras.layers.Conv2D(2, 1, bias_initializer="ones")
    patches.replace_pooling(pooling, lambda inputs: -inputs)
    np.testing.assert_array_equal(pooling(IMAGES), -IMAGES)
    patches.replace_convolution(convolution, lambda inputs, kernel: 5 * inputs)
    np.testing.assert_array_equal(convolution(IMAGES), 5 * IMAGES + 1)
    for replace, layer in (
        (patches.replace_depthwise, keras.layers.DepthwiseConv2D(3)),
        (patches.replace_separable, keras.layers.SeparableConv2D(2, 3)),
    ):
        replace(layer, lambda inputs: 7 * inputs)
        np.testing.assert_array_equal(layer(IMAGES), 7 * IMAGES)


def test_an_optimizer_passes_gradients_on():
    optimizer = keras.optimizers.SGD()
    patches.apply_gradients_as_they_are(optimizer)
    pairs = [(tf.constant(2.0), keras.Variable(1.0))]
    assert optimizer._all_reduce_sum_gradients(pairs) is pairs


def test_an_optimizer_counts_its_steps_from_a_later_one_within_and_keeps_its_variables():
    optimizer = keras.optimizers.Adam()
    optimizer.build([keras.Variable(1.0)])
    optimizer.iterations.assign(7)
    before = optimizer.variables
    with patches.counting_from(optimizer, 5):
        assert int(optimizer.iterations) == 2
    assert int(optimizer.iterations) == 7
    assert all(now is then for now, then in zip(optimizer.variables, before, strict=True))


def test_what_comes_after_an_update_sees_it_and_the_count_of_before():
    optimizer, variable, seen = keras.optimizers.SGD(0.5), keras.Variable(1.0), []
    patches.after_updates(optimizer, lambda trained: seen.append((int(optimizer.iterations), float(trained[0]))))
    for _ in range(2):
        optimizer.apply([tf.constant(1.0)], [variable])
    assert seen == [(0, 0.5), (1, 0.0)]


def test_a_layer_is_called_as_in_evaluation_as_long_as_it_should_be():
    dropout, frozen = keras.layers.Dropout(0.5, seed=1), [True]
    model = keras.Sequential([keras.Input((4, 4, 2)), dropout])
    patches.call_as_in_evaluation(dropout, lambda: frozen[0])
    np.testing.assert_array_equal(model(IMAGES, training=True), IMAGES)
    frozen[0] = False
    assert (np.asarray(model(IMAGES, training=True)) == 0).any()
    np.testing.assert_array_equal(model(IMAGES, training=False), IMAGES)


def test_a_mirrored_variable_is_assigned_without_aggregation():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        variable = keras.Variable(0.0, aggregation="mean")
    patches.assign_without_aggregation(variable)
    assert variable.value._aggregation is tf.VariableAggregation.NONE


def test_seeds_are_shifted_and_the_generator_goes_on_as_ever():
    plain, shifted = keras.random.SeedGenerator(3), keras.random.SeedGenerator(3)
    patches.shift_seeds(shifted, lambda seed: seed + 7)
    for _ in range(2):
        np.testing.assert_array_equal(shifted.next(), np.asarray(plain.next()) + 7)
    np.testing.assert_array_equal(shifted.state, plain.state)


def test_updates_are_observed_within_and_no_longer_after():
    variable, seen = keras.Variable(0.0), []
    with patches.observed_updates(seen.append):
        with keras.StatelessScope() as scope:
            variable.assign(2.0)
        assert float(scope.get_current_value(variable)) == 2.0
    with keras.StatelessScope():
        variable.assign(3.0)
    assert len(seen) == 1
    assert seen[0] is variable


def test_data_sets_of_devices_are_changed_within_and_no_longer_after():
    original = multi_device_iterator_ops._create_device_dataset
    with patches.device_datasets(lambda dataset: dataset):
        assert multi_device_iterator_ops._create_device_dataset is not original
    assert multi_device_iterator_ops._create_device_dataset is original
