"""Plain Keras, no Convoy: prints what each case comes to, as JSON. One argument: the number of CPU devices, 1 or 2.

The loss is the model's output and the learning rate 1, so the kernel of a Dense without bias moves by minus the
mean of its inputs.
"""

from __future__ import annotations

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD

DEVICES = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
# The one strategy of this process: a second one may die on the collective keys of the first.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if DEVICES == 2 else tf.distribute.get_strategy()

CASES = {}


def case(*devices: int):
    """A case that means something on that many devices."""

    def register(function):
        if DEVICES in devices:
            CASES[function.__name__] = function
        return function

    return register


def dense() -> layers.Layer:
    return layers.Dense(1, use_bias=False, kernel_initializer="zeros")


def fitted(make_optimizer, inputs: list[float], batch: int, make_layer=dense, **compiling) -> layers.Layer:
    """The only layer of a model after one epoch of `fit`."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), make_layer()])
        model.compile(make_optimizer(), loss=lambda target, output: output, **compiling)
    x = np.array(inputs, np.float32)[:, None]
    model.fit(tf.data.Dataset.from_tensor_slices((x, x)).batch(batch), verbose=0)
    return model.layers[0]


def sgd(**options):
    return lambda: SGD(1.0, **options)


def single(variable: keras.Variable) -> float:
    return variable.numpy().item()


def on_replicas(variable: keras.Variable) -> list[float]:
    """The different values that replicas hold, where all should hold one."""
    return sorted({copy.numpy().item() for copy in strategy.experimental_local_results(variable.value)})


@case(1, 2)
def clipping():
    return single(fitted(sgd(global_clipnorm=1.0), [100] * 4, 4).kernel)


@case(1, 2)
def loss_scale():
    # Times the scale, only the gradient of the last two rows overflows: they are replica 1's.
    def optimizer():
        return keras.optimizers.LossScaleOptimizer(SGD(1.0), initial_scale=1e30)

    return single(fitted(optimizer, [1, 1, 1e30, 1e30], 4).kernel)


@case(1, 2)
def accumulation():
    return single(fitted(sgd(gradient_accumulation_steps=2), [1, 1, 3, 3], 2).kernel)


@case(1, 2)
def average_overwrite():
    # Kernels -1, -2; averages -1, -1.5.
    options = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}
    return single(fitted(sgd(**options), [1, 1, 1, 1], 2).kernel)


@case(1, 2)
def moving_statistics():
    layer = fitted(sgd(), [0, 0, 50, 50], 4, lambda: layers.BatchNormalization(momentum=0.0))
    return on_replicas(layer.moving_mean)


@case(1, 2)
def cancellation():
    # In float32 the squares of 9999 and 10001 are 1e8 - 20000 and 1e8 + 20000: their mean is that of the square of 10000.
    layer = fitted(
        sgd(), [9999, 10001] * 2, 4, lambda: layers.BatchNormalization(momentum=0.0, synchronized=DEVICES == 2)
    )
    return on_replicas(layer.moving_variance)


@case(2)
def dropout_masks():
    """How many masks two replicas draw."""
    with strategy.scope():
        layer = layers.Dropout(0.5, seed=1)

    @tf.function(autograph=False)
    def drawn():
        return strategy.run(lambda: layer(tf.ones([1000]), training=True))

    return len({mask.numpy().tobytes() for mask in strategy.experimental_local_results(drawn())})


@case(1, 2)
def partial_batch():
    # The last batch: 0 and 0 on replica 0, 16 on replica 1.
    return single(fitted(sgd(), [1, 1, 1, 1, 0, 0, 16], 4).kernel)


@case(1, 2)
def empty_replica():
    # The gradient of the scale is the mean of what has just been normalized, 0.
    layer = fitted(sgd(), [1, 2, 3, 4, 5], 4, lambda: layers.BatchNormalization(center=False))
    return single(layer.gamma)


@case(1, 2)
def odd_first_batch():
    return single(fitted(sgd(), [1, 2, 3], 3).kernel)


@case(1, 2)
def steps_per_execution():
    # The last on two devices, so that what it leaves behind disturbs nobody.
    return single(fitted(sgd(), [1, 1, 3, 3], 2, steps_per_execution=2).kernel)


def of_unknown_length() -> tuple[keras.Model, tf.data.Dataset]:
    """A model that answers 0 and never learns; four batches of static shape with targets 1."""
    model = keras.Sequential([keras.Input((1,)), dense()])
    model.compile(SGD(0.0), loss="mse")
    ones = np.ones((8, 1), np.float32)
    batches = tf.data.Dataset.from_tensor_slices((ones, ones)).batch(2, drop_remainder=True)
    return model, batches.filter(lambda x, y: True)


@case(1)
def phantom_rows():
    model, batches = of_unknown_length()
    return model.evaluate(batches, verbose=0)


@case(1)
def phantom_steps():
    model, batches = of_unknown_length()
    model.fit(batches, epochs=2, verbose=0)
    return single(model.optimizer.iterations)


@case(1)
def dropout_state():
    """Whether a loaded model draws next what the saved one does: 1 or 0."""
    model = keras.Sequential([keras.Input((1000,)), layers.Dropout(0.5, seed=1)])
    ones = np.ones((1, 1000), np.float32)
    model(ones, training=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    return int(np.array_equal(loaded(ones, training=True), model(ones, training=True)))


def outcome(function):
    # An error may be the defect; the test knows which one, and takes no other.
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print(json.dumps({name: outcome(function) for name, function in CASES.items()}))
