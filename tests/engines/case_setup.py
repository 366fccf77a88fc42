"""What the cases of an engine share: python CASES.py BACKEND DEVICES FILE. Models, and engines of them on some CPU devices."""

from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from convoy.trainer.config import RunConfig
from convoy.trainer.engines import choose

BACKEND, DEVICES, FILE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
BATCH = 40
ENGINES = choose(BACKEND)
# No `auto` but the precision, which every case may choose.
RUNTIME = ENGINES.prepare(
    RunConfig(backend=BACKEND, devices=f"cpu:{DEVICES}", precision="float64", batch_size=BATCH, deterministic=True)
)

import keras  # noqa: E402
from keras import layers, ops  # noqa: E402

from convoy.data.sources.in_memory import InMemory  # noqa: E402
from convoy.trainer.engines.runtime import set_up_keras  # noqa: E402
from convoy.trainer.layers import Dropout  # noqa: E402

SHAPE, CLASSES = (8, 8, 1), 4
RNG = np.random.default_rng(0)
EXAMPLES = InMemory(RNG.integers(0, 256, (53, *SHAPE)), RNG.integers(0, CLASSES, 53))
SHAPES: list[tuple[int | None, ...]] = []


@keras.saving.register_keras_serializable("cases")
class Look(layers.Layer):
    """Notes the shape of what a model is called with."""

    def call(self, x: Any) -> Any:
        SHAPES.append(tuple(x.shape))
        return x


@keras.saving.register_keras_serializable("cases")
class Fragile(layers.Layer):
    """No number for a pixel of 255."""

    def call(self, x: Any) -> Any:
        return ops.log(0.99 - x)


def sequence(*some: Any) -> Any:
    return lambda shape, classes: keras.Sequential([keras.Input(shape), *(one() for one in some)])


# First weights by formula, so that no case depends on what draws them.
def dense(units: int, **options: Any) -> Any:
    kernel = lambda shape, dtype=None: ops.cast(np.cos(np.arange(np.prod(shape)).reshape(shape)) / 8, dtype)  # noqa: E731
    return lambda: layers.Dense(units, kernel_initializer=kernel, **options)


def norm() -> Any:
    return layers.BatchNormalization(momentum=0.5)


def zeros(units: int) -> Any:
    return lambda: layers.Dense(units, kernel_initializer="zeros")


def scaled(by: float) -> Any:
    return lambda: layers.Rescaling(by, dtype="float16")


def stock_dropout() -> Any:
    return layers.Dropout(0.5, seed=1)


def residual(shape: tuple[int, int, int], classes: int) -> Any:
    """Four blocks with all that is hard to compute twice: statistics that move, masks, a penalty."""
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, padding="same")(image)
    for index in range(4):
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
        y = layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L2(2**-10))(y)
        x = layers.Add()([x, Dropout(0.3, name=f"residual_drop{index}")(y)])
    backbone = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="backbone")
    image = keras.Input(shape)
    return keras.Model(image, layers.Dense(classes)(backbone(image)))


def toy(shape: tuple[int, int, int], classes: int) -> keras.Model:
    image = keras.Input(shape)
    x = layers.Reshape((8, 8))(image)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2, dropout=0.3, name="attention")(x, x)])
    x = layers.Dropout(0.3, noise_shape=(None, 1, 1), name="depth")(layers.BatchNormalization(name="norm")(x))
    x = layers.GaussianNoise(0.1, name="noise")(layers.Flatten()(x))
    nested = keras.Model(image, x, name="backbone")
    return keras.Sequential([keras.Input(shape), nested, layers.Dropout(0.3, name="drop"), layers.Dense(classes)])


def wide(shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Of a convolution that is Winograd's on both engines, on one device and on two."""
    convolutions = [lambda: layers.Conv2D(128, 3, padding="same", activation="relu")] * 2
    return sequence(*convolutions, layers.GlobalAveragePooling2D, lambda: layers.Dense(classes))(shape, classes)


MODELS = {
    "wide": wide,
    "residual": residual,
    "drawn": sequence(layers.Flatten, lambda: layers.Dense(8, activation="relu"), lambda: layers.Dense(CLASSES)),
    "plain": sequence(Look, layers.Flatten, dense(8, activation="tanh"), dense(CLASSES)),
    "exploding": sequence(layers.Flatten, dense(8), dense(CLASSES)),
    "steep": sequence(layers.Flatten, lambda: layers.Rescaling(30.0), dense(CLASSES)),
    "normalized": sequence(layers.Flatten, dense(8), norm, dense(CLASSES)),
    "normalized_stock": sequence(layers.Flatten, dense(8), norm, stock_dropout, dense(CLASSES)),
    "fragile": sequence(Fragile, layers.Flatten, dense(8), norm, dense(CLASSES)),
    "overflows": sequence(layers.Flatten, scaled(1000.0), zeros(CLASSES)),
    "hopeless": sequence(layers.Flatten, scaled(1000.0), zeros(CLASSES), scaled(60000.0)),
    "normalized_overflows": sequence(layers.Flatten, norm, scaled(1000.0), zeros(CLASSES)),
    "stock": sequence(layers.Flatten, stock_dropout, dense(CLASSES)),
    "convolved": sequence(
        lambda: layers.Conv2D(3, 3), norm, lambda: layers.Conv2D(2, 3), layers.Flatten, dense(CLASSES)
    ),
}
sys.modules["cases"] = types.SimpleNamespace(**MODELS, toy=toy)  # type: ignore[assignment]


def engine(
    model: str, examples: InMemory = EXAMPLES, first_position: int = 0, of: str = "cases:", **values: Any
) -> Any:
    config = dataclasses.replace(
        RUNTIME.config, model=f"{of}{model}", **{"optimizer": "sgd", "duration": "40st", "seed": 2, **values}
    )
    set_up_keras(config)
    draws = np.bincount(examples.labels, minlength=CLASSES)
    built = ENGINES.Engine(dataclasses.replace(RUNTIME, config=config), SHAPE, draws)
    built.feed(examples, first_position)
    return built


def after(built: Any, steps: int) -> dict[str, np.ndarray]:
    result = built.train(steps)
    figures = {"losses": result.losses, "norms": result.gradient_norms, "finite": np.array(result.finite)}
    noise = {"noise": np.array(result.noise)} if result.noise else {}
    return {**built.state(), **figures, **noise}


def labelled(**states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Several states in one: "label/name"."""
    return {f"{label}/{name}": value for label, state in states.items() for name, value in state.items()}
