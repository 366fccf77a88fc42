"""First weights on one backend, all from one process: KERAS_BACKEND=... python first_weight_cases.py FILE.

Writes an .npz of every case; test_first_weights.py compares the files of both backends.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from convoy.imports import tensorflow_and_keras

tensorflow_and_keras(os.environ["KERAS_BACKEND"])

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import initializers, layers  # noqa: E402

from convoy.trainer.engines import first_weights, patches  # noqa: E402

ON_JAX = keras.backend.backend() == "jax"
if ON_JAX:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
else:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)

SEED, SHAPE = 3, (3, 3, 48, 160)
INITIALIZERS: dict[str, Callable[[], initializers.Initializer]] = {
    "RandomNormal": lambda: initializers.RandomNormal(0.1, 0.3),
    "RandomUniform": lambda: initializers.RandomUniform(-0.2, 0.5),
    "TruncatedNormal": lambda: initializers.TruncatedNormal(0.1, 0.3),
    "VarianceScaling": lambda: initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal"),
    "GlorotNormal": initializers.GlorotNormal,
    "GlorotUniform": initializers.GlorotUniform,
    "HeNormal": initializers.HeNormal,
    "HeUniform": initializers.HeUniform,
    "LecunNormal": initializers.LecunNormal,
    "LecunUniform": initializers.LecunUniform,
    "Orthogonal": lambda: initializers.Orthogonal(2.0),
}
CONSTANT = {
    "Zeros": initializers.Zeros,
    "Ones": initializers.Ones,
    "Constant": lambda: initializers.Constant(0.7),
    "Identity": initializers.Identity,
}
CASES: dict[str, np.ndarray] = {}


def value_of(variable: keras.Variable) -> np.ndarray:
    value = keras.ops.convert_to_numpy(variable.value)
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value


def first_value(
    initializer: object, path: str = "layer/kernel", shape: tuple[int, ...] = SHAPE, dtype: str = "float32"
) -> np.ndarray:
    scope, name = path.split("/")
    with keras.name_scope(scope):
        return value_of(keras.Variable(initializer, shape=shape, dtype=dtype, name=name))


def negated_halves(shape: tuple[int, ...], dtype: str | None = None) -> object:
    """Two calls with one seed must give the same numbers."""
    half = (*shape[:-1], shape[-1] // 2)
    first, second = (initializers.HeNormal(seed=7)(half, dtype=dtype) for _ in range(2))
    return keras.ops.concatenate([first, -second], axis=-1)


def two_draws(shape: tuple[int, ...], dtype: str | None = None) -> object:
    """Two calls without a seed must give different numbers."""
    half = (*shape[:-1], shape[-1] // 2)
    return keras.ops.concatenate([keras.random.normal(half, dtype=dtype) for _ in range(2)], axis=-1)


class Scaled(initializers.Initializer):
    """A user's own, with a seed that Keras would take literally."""

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> object:
        return 2.0 * keras.random.normal(shape, mean=0.5, stddev=0.25, dtype=dtype, seed=11)


def whole_numbers(shape: tuple[int, ...], dtype: str | None = None) -> object:
    return keras.ops.cast(keras.random.randint(shape, -3, 4, seed=1), dtype)


def gamma(shape: tuple[int, ...], dtype: str | None = None) -> object:
    return keras.random.gamma(shape, 2.0, dtype=dtype, seed=1)


USERS: dict[str, Callable[..., object]] = {
    "Scaled": Scaled(),
    "generator": initializers.RandomNormal(seed=keras.random.SeedGenerator(5)),
    "negated_halves": negated_halves,
    "two_draws": two_draws,
    "whole_numbers": whole_numbers,
    "gamma": gamma,
}


def own_numbers(shape: tuple[int, ...], dtype: str | None = None) -> object:
    return keras.ops.cast(np.random.default_rng().normal(size=shape), dtype)


def model(first: str = "first") -> keras.Model:
    """One initializer for two layers of equal shape, and a random layer."""
    shared = initializers.GlorotUniform()
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, kernel_initializer=shared, name=first),
            layers.Dropout(0.5),
            layers.Dense(6, kernel_initializer=shared, name="second"),
        ],
        name="model",
    )


def add(prefix: str, built: keras.Model) -> None:
    CASES.update({f"{prefix}/{variable.path}": value_of(variable) for variable in built.variables})


def add_random(prefix: str) -> None:
    """What Keras draws where no variable gets its first value."""
    CASES[f"{prefix}/normal"] = keras.ops.convert_to_numpy(keras.random.normal((5,), seed=1))
    CASES[f"{prefix}/HeNormal"] = keras.ops.convert_to_numpy(initializers.HeNormal(seed=1)((5, 5)))
    CASES[f"{prefix}/Orthogonal"] = keras.ops.convert_to_numpy(initializers.Orthogonal(seed=1)((5, 5)))


@contextlib.contextmanager
def drawn(seed: int = SEED) -> Iterator[list[str]]:
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with patches.first_weights(seed) as unrepeatable:
        yield unrepeatable


add_random("keras")
with drawn() as unrepeatable:
    for name, create in INITIALIZERS.items():
        CASES[f"initializer/{name}"] = first_value(create())
    for dtype in ("float16", "bfloat16", "float64"):
        CASES[f"dtype/{dtype}"] = first_value(initializers.GlorotNormal(), dtype=dtype)
    for name, create in CONSTANT.items():
        CASES[f"constant/{name}"] = first_value(create(), shape=(4, 4))
    for name, users in USERS.items():
        CASES[f"users/{name}"] = first_value(users)
        CASES[f"users/{name}/again"] = first_value(users)
        CASES[f"users/{name}/elsewhere"] = first_value(users, "layer/other")
    wide, tall = (7, 12), (5, 2, 4)
    CASES["orthogonal/wide"] = first_value(initializers.Orthogonal(), shape=wide, dtype="float64")
    CASES["orthogonal/tall"] = first_value(initializers.Orthogonal(), shape=tall, dtype="float64")
    CASES["orthogonal/many"] = np.stack(
        [first_value(initializers.Orthogonal(), f"layer/w{index}", (3, 3)) for index in range(400)]
    )
    add_random("outside")
    assert not unrepeatable
    first_value(own_numbers, "mine/kernel")
    first_value(own_numbers, "mine/bias", shape=(4,))
    CASES["unrepeatable"] = np.array(unrepeatable)
    first_weights.cores = lambda: 1
    CASES["one thread"] = first_value(initializers.RandomNormal(0.1, 0.3))
for name, seed, first in (("model", SEED, "first"), ("seed", SEED + 1, "first"), ("renamed", SEED, "another")):
    with drawn(seed):
        add(name, model(first))
add_random("restored")
if not ON_JAX:
    for devices in (1, 2, 4):
        strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)])
        with drawn(), strategy.scope():
            mirrored = model()
        for variable in mirrored.variables:
            copies = [copy.numpy() for copy in strategy.experimental_local_results(variable.value)]
            CASES[f"mirrored/{devices}/{variable.path}"] = np.stack(copies)
np.savez(sys.argv[1], **CASES)
