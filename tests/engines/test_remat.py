"""Where --remat cuts a graph, and which models it refuses. What the steps of both engines come to is in test_engines.py."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from convoy import exits
from convoy.trainer.engines import remat
from convoy.trainer.models.resnet import resnet18

SHAPE = (8, 8, 3)


def chain(length: int) -> keras.Model:
    image = keras.Input(SHAPE)
    x = image
    for _ in range(length):
        x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(image, x)


def residual() -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3, padding="same")(image)
    for _ in range(4):
        y = layers.Conv2D(3, 3, padding="same", activation="relu")(layers.BatchNormalization()(x))
        x = layers.Add()([x, y])
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


def wrapped(backbone: keras.Model) -> keras.Model:
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(backbone(image))))


@pytest.mark.parametrize("length", [4, 16, 36])
def test_a_chain_is_cut_into_about_the_root_of_its_length(length):
    segments = remat.cut(chain(length))
    assert sum(len(segment.nodes) for segment in segments) == length
    peak = len(segments) + max(len(segment.nodes) for segment in segments)
    assert peak <= 2 * length**0.5 + 1, "Chen et al. 2016: 2 sqrt(n) for n layers of equal size"


def test_a_residual_block_is_never_cut_within():
    model = resnet18(SHAPE, 2)
    segments = remat.cut(model)
    assert segments[0].first == id(model.inputs[0])
    assert segments[-1].last == id(model.outputs[0])
    assert all(segment.last == after.first for segment, after in itertools.pairwise(segments))
    produced = [{segment.first, *(id(t) for node in segment.nodes for t in node.outputs)} for segment in segments]
    for segment, tensors in zip(segments, produced, strict=True):
        assert all(id(tensor) in tensors for node in segment.nodes for tensor in node.input_tensors)


def test_segments_compute_what_the_graph_does():
    model = resnet18(SHAPE, 2)
    x = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    value = x
    for segment in remat.cut(model):
        value = segment.run(lambda operation: lambda *a, **k: operation(*a, **k), value)
    np.testing.assert_array_equal(value, model(x))


@pytest.mark.parametrize(
    "make",
    [lambda: chain(9), lambda: keras.Sequential([keras.Input(SHAPE), *chain(9).layers[1:]]), lambda: wrapped(chain(9))],
    ids=["functional", "sequential", "nested"],
)
def test_evaluation_stays_as_it_is_and_training_is_the_same(make):
    model = make()
    x = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    before = [model(x, training=training) for training in (False, True)]
    remat.install(model, "a model")
    for expected, training in zip(before, (False, True), strict=True):
        np.testing.assert_array_equal(model(x, training=training), expected)


def gradients(model: keras.Model) -> list[np.ndarray]:
    """Of a sum of logits, and then the statistics that BatchNormalization has."""
    x = np.random.default_rng(0).random((4, *SHAPE)).astype(np.float32)

    @tf.function(autograph=False)
    def compute() -> list[tf.Tensor]:
        weights = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            total = tf.reduce_sum(tf.cast(model(x, training=True), tf.float32) ** 2)
        return tape.gradient(total, weights)

    return [tensor.numpy() for tensor in (*compute(), *(v.value for v in model.non_trainable_variables))]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_gradients_and_statistics_have_the_same_bits_in_any_precision(policy):
    found = []
    for recomputed in (False, True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        model = residual()
        if recomputed:
            remat.install(model, "a model")
        found.append(gradients(model))
    kept, again = found
    assert len(kept) == 28
    for value, expected in zip(again, kept, strict=True):
        np.testing.assert_array_equal(value, expected)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class Counting(layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1)
        return inputs


def with_layer(layer: layers.Layer) -> keras.Model:
    image = keras.Input(SHAPE)
    x = layer(layers.Conv2D(3, 3, padding="same")(image))
    for _ in range(9):
        x = layers.Conv2D(3, 3, padding="same")(x)
    return keras.Model(image, x)


@pytest.mark.parametrize("make", [Subclassed, lambda: chain(1)], ids=["subclassed", "one layer"])
def test_what_cannot_be_cut_is_refused(make):
    with pytest.raises(exits.CannotRun, match="--remat.*--model=a model"):
        remat.install(make(), "a model")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: Counting(name="counting"), "counting/variable counts what is computed"),
        (lambda: layers.GaussianNoise(0.1, seed=1), "draws random numbers"),
        (lambda: layers.ActivityRegularization(l2=0.1), "a layer adds a loss of its activations"),
    ],
    ids=["counting", "noise", "activity"],
)
def test_what_cannot_be_computed_twice_is_refused(layer, reason):
    model = with_layer(layer())
    remat.install(model, "a model")
    with pytest.raises(exits.CannotRun, match=reason):
        model(np.zeros((2, *SHAPE), np.float32), training=True)
