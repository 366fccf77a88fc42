"""FLOPs of a step, counted from networks whose work is published."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from convoy.trainer import flops
from convoy.trainer.models.build import build_model


def count(model, shape, frozen=()):
    trained = {id(v) for v in model.trainable_variables if not any(name in v.path for name in frozen)}
    return flops.count(model, shape, trained)


def test_a_forward_pass_is_what_is_published():
    model = build_model("resnet18", (224, 224, 3), 1000)
    assert count(model, (224, 224, 3), frozen=("",)).flops / 2 == pytest.approx(1.814e9, rel=1e-3)


def test_what_no_gradient_reaches_goes_forward_alone():
    model = build_model("article_cnn", (16, 16, 3), 3)
    forward = {"conv": 2 * 14 * 14 * 27 * 32, "dense": 2 * 7 * 7 * 32 * 128, "logits": 2 * 128 * 3}
    whole = count(model, (16, 16, 3)).layers
    assert whole == {"conv": 2 * forward["conv"], "dense": 3 * forward["dense"], "logits": 3 * forward["logits"]}
    head = count(model, (16, 16, 3), frozen=("conv/", "dense/")).layers
    assert head == {**forward, "logits": 2 * forward["logits"]}


def test_layers_of_every_kind():
    image = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(image)
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.Conv2DTranspose(2, 2, strides=2, name="transposed")(x)
    x = layers.Reshape((256, 2))(x)
    x = layers.EinsumDense("abc,cde->abde", (256, 3, 5), name="einsum")(x)
    x = layers.Reshape((256, 15))(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(image, x)
    forward = {name: value / 2 for name, value in count(model, (8, 8, 4), frozen=("",)).layers.items()}
    assert forward["depthwise"] == 64 * 9 * 4
    assert forward["separable"] == 64 * (9 * 4 + 4 * 6)
    assert forward["grouped"] == 64 * 9 * 3 * 6
    assert forward["transposed"] == 64 * 4 * 6 * 2
    assert forward["einsum"] == 256 * 2 * 3 * 5
    assert forward["attention"] == 256 * 256 * 2 * (4 + 4)
    assert forward["attention/query"] == 256 * 15 * 8


def test_a_layer_that_is_not_known_is_named():
    class Own(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 2))

        def call(self, x):
            return x @ self.table

    model = keras.Sequential([keras.Input((4, 4, 3)), Own(name="own"), layers.Flatten(), layers.Dense(2)])
    assert count(model, (4, 4, 3)).uncounted == ["own"]
