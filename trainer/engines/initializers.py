"""What Keras calls while a variable gets its first value, in forms that draw from convoy.trainer.engines.first_weights.

Each takes Keras' own function and returns one for patches.first_weights to put in its place. Outside an initializer that
calls the original.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras.src import backend

from convoy.data.arrays import Array
from convoy.trainer.engines import first_weights

Function = Callable[..., Any]  # of Keras, with whatever arguments it takes


def initialize(original: Function, seed: int, unrepeatable: list[str]) -> Function:
    """Variable._initialize_with_initializer: says which variable its initializer draws for.

    Appends the paths of variables whose value is another at each call to `unrepeatable`.
    """

    def initialize_with_initializer(variable: keras.Variable, initializer: Function) -> None:
        @functools.wraps(initializer)
        def first_value(*arguments: object, **options: object) -> Array:
            def draw() -> Array:
                with first_weights.drawing(first_weights.Variable(seed, variable.path)):
                    return initializer(*arguments, **options)

            value = draw()
            # Keras' own draw from keras.random alone; a second call of a user's shows where else it draws from.
            users = not initializer.__module__.startswith("keras.")
            if users and variable.path not in unrepeatable and _bits(draw()) != _bits(value):
                unrepeatable.append(variable.path)
            return value

        original(variable, first_value)

    return initialize_with_initializer


def distribution(original: Function, draw: Callable[..., np.ndarray]) -> Function:
    """A function of keras.random, computed by `draw`."""

    def compute(variable: first_weights.Variable, call: inspect.BoundArguments) -> Array:
        call.apply_defaults()
        seed, dtype = call.arguments.pop("seed"), call.arguments.pop("dtype")
        return _tensor(draw(variable.stream(seed), **call.arguments), dtype)

    return _for_first_values(original, compute)


def reseeded(original: Function) -> Function:
    """A function of keras.random that the engine computes, from a seed of the variable's.

    So a value is a function of (seed, path), but each engine has its own.
    """

    def compute(variable: first_weights.Variable, call: inspect.BoundArguments) -> Array:
        call.arguments["seed"] = variable.stream(call.arguments.get("seed")).number % 2**31
        return original(*call.args, **call.kwargs)

    return _for_first_values(original, compute)


def _for_first_values(
    original: Function, compute: Callable[[first_weights.Variable, inspect.BoundArguments], Array]
) -> Function:
    """A function of keras.random that `compute` replaces while a variable gets its first value."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def random_tensor(*arguments: object, **options: object) -> Array:
        variable = first_weights.current()
        if variable is None:
            return original(*arguments, **options)
        return compute(variable, signature.bind(*arguments, **options))

    return random_tensor


def orthogonal(original: Function) -> Function:
    """Orthogonal.__call__ with NumPy's QR decomposition; those of the engines differ in the last bits."""

    @functools.wraps(original)
    def orthogonal_tensor(initializer: Any, shape: Sequence[int], dtype: str | None = None) -> Array:
        variable = first_weights.current()
        if variable is None or len(shape) < 2:  # Keras has a sentence for vectors
            return original(initializer, shape, dtype)
        return _tensor(first_weights.orthogonal(variable.stream(initializer.seed), shape, initializer.gain), dtype)

    return orthogonal_tensor


def _tensor(numbers: np.ndarray, dtype: str | None) -> Array:
    dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
    return backend.convert_to_tensor(numbers.astype(dtype), dtype)


def _bits(tensor: Array) -> bytes:
    return backend.convert_to_numpy(tensor).tobytes()
