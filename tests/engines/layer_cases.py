"""Random layers of one backend, on two CPU devices, all from one process: KERAS_BACKEND=... python layer_cases.py FILE.

Writes an .npz of what every case came to, as "case/name"; test_layers.py compares the files of both backends.
"""

from __future__ import annotations

import functools
import os
import sys

from convoy.imports import tensorflow_and_keras

tensorflow_and_keras(os.environ["KERAS_BACKEND"])

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers, ops  # noqa: E402

from convoy.trainer.engines.randomness import decorrelate_replicas, draw_by_position  # noqa: E402
from convoy.trainer.layers import Dropout, StochasticDepth, drawing  # noqa: E402
from convoy.trainer.threefry import threefry  # noqa: E402

# Key and counter of the known answers: zeros, ones, digits of pi.
KEYS = np.array([[0, 0], [0xFFFFFFFF, 0xFFFFFFFF], [0x13198A2E, 0x03707344]], np.uint32).T
COUNTERS = np.array([[0, 0], [0xFFFFFFFF, 0xFFFFFFFF], [0x243F6A88, 0x85A308D3]], np.uint32).T
# Low and high words: the first, both sides of 2**32, and far beyond it.
POSITIONS = np.array([[0, 0], [1, 0], [2**32 - 1, 0], [0, 1], [1, 1], [7, 2**31], [8, 2**31], [9, 2**31]], np.uint32)
LAYERS = {
    "odd": (Dropout(0.3, name="odd"), (45,)),
    "even": (Dropout(0.3, name="even"), (3, 4, 2)),
    "one": (Dropout(0.3, name="one"), ()),
    "dtype/float32": (Dropout(0.3, name="dtype"), (64,)),
    "dtype/float16": (Dropout(0.3, name="dtype", dtype="float16"), (64,)),
    "dtype/bfloat16": (Dropout(0.3, name="dtype", dtype="bfloat16"), (64,)),
    "depth": (StochasticDepth(0.3, name="depth"), (3, 2)),
}
SHARES = {"odd": [[3], [2, 4, 6]], "depth": [[4]]}


class Twice(layers.Layer):
    """Draws twice from one generator."""

    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return (
            x
            + keras.random.uniform(ops.shape(x), seed=self.generator)
            - keras.random.uniform(ops.shape(x), seed=self.generator)
        )


class Windows(layers.Layer):
    """Drops in the halves of examples, as if those were the batch."""

    def __init__(self, **options):
        super().__init__(**options)
        self.drop = layers.Dropout(0.5, seed=1, name="drop")

    def call(self, x, training=False):
        return ops.reshape(self.drop(ops.reshape(x, (-1, 2, 4)), training=training), (-1, 4, 4))


def attention() -> keras.Model:
    x = keras.Input((4, 4))
    dropped = layers.MultiHeadAttention(2, 3, dropout=0.4, kernel_initializer="ones", name="attention")(x, x)
    return keras.Model(x, layers.Attention(dropout=0.4, name="plain")([dropped, x]))


def chain() -> keras.Model:
    return keras.Sequential([
        layers.Dropout(0.5, seed=1),
        layers.Dropout(0.2, noise_shape=(None, 1, 4), seed=1),
        layers.SpatialDropout1D(0.2, seed=1),
        layers.AlphaDropout(0.5, seed=1),
        layers.GaussianDropout(0.5, seed=1),
        layers.GaussianNoise(0.5, seed=1),
    ])  # fmt: skip


# Keras' own layers, which a run has draw by position; of examples [4, 4].
STOCK = {"chain": chain, "attention": attention, "twice": Twice, "windows": Windows}
CASES: dict[str, np.ndarray] = {}


def output(layer: layers.Layer, x, positions):
    with drawing(3, positions):
        return ops.cast(layer(x, training=True), "float32")


def stock() -> keras.Model:
    nested = keras.Sequential([keras.Input((1000,)), layers.Dropout(0.5, seed=1)])
    return keras.Sequential([keras.Input((1000,)), nested])


if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    COMPILERS = {"jit": jax.jit}

    def gradient(function, x):
        return jax.grad(lambda x: ops.sum(function(x)))(x)

    def on_two_devices():
        """One step: what every replica draws, and the states of its generators after it."""
        model, mesh, spec = stock(), jax.make_mesh((2,), ("replica",)), jax.sharding.PartitionSpec
        decorrelate_replicas(model, lambda: jax.lax.axis_index("replica"))

        def step(state):
            drawn, state = model.stateless_call([], state, np.ones((1, 1000)), training=True)
            return drawn, [one[None] for one in state]

        step = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=spec(), out_specs=spec("replica"), check_vma=False))
        state = [variable.value for variable in model.non_trainable_variables]
        while True:
            drawn, states = jax.device_get(step(state))
            state = [one[0] for one in states]
            yield drawn, states[0]

else:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    COMPILERS = {
        "graph": functools.partial(tf.function, autograph=False),
        "xla": functools.partial(tf.function, autograph=False, jit_compile=True),
    }

    def gradient(function, x):
        with tf.GradientTape() as tape:
            x = tf.constant(x)
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    def on_two_devices():
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            model = stock()
        decorrelate_replicas(model, lambda: tf.distribute.get_replica_context().replica_id_in_sync_group)
        local = strategy.experimental_local_results

        @tf.function(autograph=False)
        def step():
            return strategy.run(lambda: model(tf.ones([1, 1000]), training=True))

        while True:
            drawn = local(step())
            yield tf.concat(drawn, 0), tf.stack(local(model.non_trainable_variables[0].value))


def main() -> None:
    CASES["threefry/eager"] = np.stack(threefry(tuple(KEYS), tuple(COUNTERS)), 1)
    for way, compiled in COMPILERS.items():
        CASES[f"threefry/{way}"] = np.stack(compiled(threefry)(tuple(KEYS), tuple(COUNTERS)), 1)
    for name, (layer, shape) in LAYERS.items():
        call, x = functools.partial(output, layer), np.ones((len(POSITIONS), *shape), np.float32)
        CASES[f"{name}/eager"] = call(x, POSITIONS)
        for way, compiled in COMPILERS.items():
            CASES[f"{name}/{way}"] = compiled(call)(x, POSITIONS)
        for shares in SHARES.get(name, ()):
            cut = zip(np.array_split(x, shares), np.array_split(POSITIONS, shares), strict=True)
            CASES[f"{name}/{len(shares) + 1} shares"] = np.concatenate([call(*share) for share in cut])
        CASES[f"gradient/{name}"] = gradient(lambda x, call=call: call(x, POSITIONS), x)
    for name, make in STOCK.items():
        model = keras.Sequential([keras.Input((4, 4)), make()])
        draw_by_position(model)
        call, x = functools.partial(output, model), np.ones((len(POSITIONS), 4, 4), np.float32)
        CASES[f"by position/{name}/eager"] = call(x, POSITIONS)
        CASES[f"by position/{name}/compiled"] = next(iter(COMPILERS.values()))(call)(x, POSITIONS)
        halves = zip(np.array_split(x, 2), np.array_split(POSITIONS, 2), strict=True)
        CASES[f"by position/{name}/halves"] = np.concatenate([call(*half) for half in halves])
        CASES[f"drawn/{name}"] = np.concatenate([np.ravel(v) for v in model.non_trainable_variables], dtype=np.int64)
    steps = on_two_devices()
    for step in (1, 2):
        CASES[f"stock/drawn {step}"], CASES[f"stock/states {step}"] = next(steps)
    np.savez(sys.argv[1], **{name: np.asarray(value) for name, value in CASES.items()})


main()
