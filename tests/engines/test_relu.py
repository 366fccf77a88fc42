"""ReLU in one pass with its neighbours: TensorFlow's bits, also of what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from convoy.trainer.engines.tensorflow import relu
from support import assert_same_bits, records_of

SHAPE = (16, 32, 32, 64)
SPECIAL = (-3e38, -np.inf, np.inf, np.nan, -0.0, 0.0, 1e-40)
WEIGHTS = tf.cast(tf.reshape(tf.range(16) - 8, [16, 1, 1, 1]), tf.bfloat16)

MODEL = """
import keras
from keras import layers

def residual(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = layers.ReLU()(layers.Conv2D(64, 3, padding="same")(image))
    y = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(64, 3, padding="same")(x)))
    # TensorFlow joins an addition to a convolution right before it, with a rounding less; not to this.
    y = layers.BatchNormalization()(layers.Conv2D(64, 1)(y))
    x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(image, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)), name="residual")
"""


def values(seed: int, dtype: tf.DType = tf.bfloat16) -> tf.Tensor:
    drawn = np.random.default_rng(seed).standard_normal(SHAPE, np.float32)
    for place, value in enumerate(SPECIAL):
        drawn[seed, place] = value
    return tf.cast(drawn, dtype)


def residual(activation):
    """What two branches take up, what each makes of it, and the gradients of what is added and of what is not."""

    def of(first, second, alone):
        with tf.GradientTape() as tape:
            tape.watch([first, second, alone])
            joined = activation(first + second)
            outputs = joined, activation(joined * alone), activation(alone)
            loss = tf.add_n([tf.reduce_sum(output * WEIGHTS) for output in outputs])
        return *outputs, *tape.gradient(loss, [first, second, alone])

    return tf.function(of)


def operations(function) -> list[str]:
    graph = function.get_concrete_function(values(0), values(1), values(2)).graph
    return [operation.type for operation in graph.get_operations()]


def bits(tensors) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in tensors]


def test_it_has_tensorflows_bits():
    arrays = values(0), values(1), values(2)
    assert bits(residual(relu.relu)(*arrays)) == bits(residual(tf.nn.relu)(*arrays))


def test_it_joins_a_sum_before_and_a_sum_after():
    own = operations(residual(relu.relu))
    # Two compiled gradients and one compiled sum; no gradient is left to TensorFlow's operation.
    assert own.count("ReluGrad") == 0
    assert own.count("PartitionedCall") + own.count("StatefulPartitionedCall") == 4
    assert own.count("Relu") == 2


@pytest.mark.parametrize("tensor", [values(0, tf.float32), values(0)[:1]], ids=["float32", "small"])
def test_elsewhere_it_is_tensorflows_own(tensor):
    graph = tf.function(relu.relu).get_concrete_function(tensor).graph
    assert "Relu" in [operation.type for operation in graph.get_operations()]
    assert len(graph.get_operations()) == 3  # with a placeholder and an identity


def test_an_addition_that_repeats_one_of_two_is_left_alone():
    @tf.function
    def biased(images, bias):
        return relu.relu(images + bias)

    images, bias = values(0), tf.cast(tf.linspace(-1.0, 1.0, SHAPE[-1]), tf.bfloat16)
    assert bits([biased(images, bias)]) == bits([tf.nn.relu(images + bias)])


def test_a_network_on_two_devices_has_the_bits_of_before(convoy, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL)
    flags = ["--dataset=synthetic:32x32x3:10:64", "--model=mine:residual", "--batch_size=32", "--precision=mixed_bfloat16",
             "--devices=cpu:2", "--duration=4st", "--eval_split=none", "--noreport"]  # fmt: skip
    for kernels in (3, 4):
        outcome = convoy("train", *flags, f"--kernels={kernels}", f"--run_dir=by-{kernels}")
        assert outcome.code == 0, outcome
    assert_same_bits(tmp_path / "by-4", tmp_path / "by-3")
    assert records_of(tmp_path / "by-4") == records_of(tmp_path / "by-3")
