"""Keras' own random layers: they draw by position, as those of convoy.trainer.layers do, or by replica where they cannot.

A layer's call to keras.random.dropout, uniform or normal gets numbers that are a function of (seed, layer, position of the
example). Its generator is then left as it is: its state counts nothing any more.
"""

from __future__ import annotations

import contextvars
import functools
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer import layers
from convoy.trainer.engines import patches
from convoy.trainer.models.names import is_users_own
from convoy.trainer.threefry import word

_INSTEAD = "Take Dropout and StochasticDepth from convoy.trainer.layers to have it the same"
ON_ONE = (
    "{model} draws random numbers in Keras' own layers ({path}), by the examples' positions on several devices, and one after"
    " the other on one: the run ends elsewhere on one device. " + _INSTEAD + " there."
)
NOTE = (
    "{model} draws random numbers in layers that cannot draw by the examples' positions ({path}): the run ends elsewhere on"
    " another number of devices. " + _INSTEAD + " everywhere."
)
# Of Keras and KerasHub: they draw with keras.random.dropout, uniform or normal, of shapes that begin with the batch.
_BY_POSITION = frozenset({
    "AdditiveAttention", "AlphaDropout", "Attention", "DropPath", "Dropout", "GaussianDropout", "GaussianNoise",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
})  # fmt: skip
Function = Callable[..., Any]  # of keras.random, with whatever arguments it takes

# Bits of a word that a type of number holds exactly, so that a fraction of them is below 1.
_BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 32}
_names: weakref.WeakKeyDictionary[keras.random.SeedGenerator, str] = weakref.WeakKeyDictionary()
# How often each generator has drawn in the current call of its layer; a strategy traces each replica in its own thread.
_draws: contextvars.ContextVar[weakref.WeakKeyDictionary[keras.random.SeedGenerator, int]]
_draws = contextvars.ContextVar("draws")


def install(model: keras.Model, name: str, replicas: int, replica: Callable[[], Scalar]) -> list[str]:
    """Has Keras' own random layers of a model draw by position; returns what a person should know of them.

    On one device, a user's own model keeps Keras' draws: a run that an older version began goes on to its bits.

    Args:
      name: --model.
      replica: the index of the replica that asks, inside a step.
    """
    if replicas > 1 or not is_users_own(name):
        draw_by_position(model)
    if replicas == 1:
        return []
    decorrelate_replicas(model, replica)
    return note(model, name)


def draw_by_position(model: keras.Model) -> None:
    """Has the layers of a model draw by position from now on, in training steps: within convoy.trainer.layers.drawing.

    A layer is known by its path, and by its place among layers of the same path.
    """
    patches.draw_through({"dropout": _dropout, "uniform": _uniform, "normal": _normal})
    taken: dict[str, int] = {}
    for layer in _drawing_layers(model):
        path = layer.path or layer.name
        taken[path] = taken.get(path, 0) + 1
        for index, generator in enumerate(layer._seed_generators):
            _names[generator] = f"{path}/{taken[path]}/{index}"
        patches.around_call(layer, functools.partial(_begin, layer._seed_generators))


def decorrelate_replicas(model: keras.Model, replica: Callable[[], Scalar]) -> None:
    """Gives every replica its own stream of each generator in a model; left alone, they would all draw the same.

    `replica` is the index of the replica that asks, inside a step. The generators' states stay equal on all replicas, so a
    checkpoint holds one.
    """

    def seed_of_replica(seed: Array) -> Array:
        # Any odd constant keeps streams apart; this one spreads the bits (2**31 over the golden ratio).
        shift = keras.ops.stack([replica(), 0 * replica()]) * 1327217885
        return seed + keras.ops.cast(shift, seed.dtype)

    for generator in layers.stock_generators(model):
        patches.shift_seeds(generator, seed_of_replica)


def note(model: keras.Model, name: str) -> list[str]:
    """What the start-up block has to say about a model's random layers on several devices."""
    drawing = list(_drawing_layers(model))
    others = [layer for layer in drawing if not _draws_by_position(layer)]
    if others:
        return [NOTE.format(model=name, path=others[0].path or others[0].name)]
    if drawing and is_users_own(name):
        return [ON_ONE.format(model=name, path=drawing[0].path or drawing[0].name)]
    return []


def _draws_by_position(layer: keras.layers.Layer) -> bool:
    stock = type(layer).__module__.split(".")[0] in ("keras", "keras_hub") and type(layer).__name__ in _BY_POSITION
    return stock and (getattr(layer, "noise_shape", None) or (None,))[0] is None


def _drawing_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    return (layer for layer in model._flatten_layers() if layer._seed_generators)


def _begin(generators: list[keras.random.SeedGenerator]) -> None:
    """A layer is called: its draws count anew, so that a call that is repeated for the gradient draws the same."""
    for generator in generators:
        _counts()[generator] = 0


def _counts() -> weakref.WeakKeyDictionary[keras.random.SeedGenerator, int]:
    counts = _draws.get(None)
    if counts is None:
        counts = weakref.WeakKeyDictionary()
        _draws.set(counts)
    return counts


def _words(seed: object, shape: tuple[Any, ...], each: int = 1) -> list[Any] | None:
    """`each` uint32 tensors of `shape`, by position; None where Keras has to draw.

    The first dimension is the batch, or examples cut into equally many parts, as windows of an image are: those of an example
    stand together, as a reshape leaves them.
    """
    draw = layers.current_draw()
    name = _names.get(seed) if isinstance(seed, keras.random.SeedGenerator) else None
    if draw is None or name is None or not shape or not all(isinstance(side, int) for side in shape):
        return None
    if shape[0] % draw.examples:
        return None
    counts = _counts()
    counts[seed] = counts.get(seed, 0) + 1
    numbers = math.prod(shape) // draw.examples
    words = draw.words(each * numbers, "keras", name, counts[seed])
    return [ops.reshape(words[:, part * numbers : (part + 1) * numbers], shape) for part in range(each)]


def _fraction(words: Any, dtype: str) -> Any:
    """[0, 1), of a type that holds it exactly."""
    bits = _BITS[dtype]
    shifted = ops.right_shift(words, word(32 - bits)) if bits < 32 else words
    return ops.cast(shifted, "float64" if bits == 32 else "float32") * 2.0**-bits


def _dropout(original: Function) -> Function:
    @functools.wraps(original)
    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        sides = inputs.shape if noise_shape is None else noise_shape
        shape = tuple(inputs.shape[axis] if side is None else side for axis, side in enumerate(sides))
        words = None if rate in (0.0, 1.0) else _words(seed, shape)
        if words is None:
            return original(inputs, rate, noise_shape, seed)
        kept = ops.greater_equal(words[0], layers.threshold(rate))
        return ops.where(kept, inputs / (1 - rate), ops.zeros_like(inputs))

    return dropout


def _uniform(original: Function) -> Function:
    @functools.wraps(original)
    def uniform(shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        kind = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        words = _words(seed, tuple(shape)) if kind in _BITS else None
        if words is None:
            return original(shape, minval, maxval, dtype, seed)
        return ops.cast(minval + (maxval - minval) * _fraction(words[0], kind), kind)

    return uniform


def _normal(original: Function) -> Function:
    @functools.wraps(original)
    def normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        kind = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        words = _words(seed, tuple(shape), each=2) if kind in _BITS else None
        if words is None:
            return original(shape, mean, stddev, dtype, seed)
        # Box and Muller 1958, in a type with enough digits for the logarithm.
        wide = "float64" if kind == "float64" else "float32"
        radius, turn = (_fraction(part, wide) for part in words)
        unit = ops.sqrt(-2 * ops.log1p(-radius)) * ops.cos(2 * math.pi * turn)
        return ops.cast(mean + stddev * unit, kind)

    return normal
