"""Layers that draw at random, as a pure function of (seed, layer, position of the example).

Keras' own keep a counter in a variable, so that what an example meets depends on how many devices share the batch, and
on several devices every one draws the same. These ask for the position of each example in the training stream
instead, in integer arithmetic that is exact everywhere: the masks are identical on both engines and any number of devices.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from convoy.data.keys import key

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_ROUNDS = 13  # the fewest that pass every test of TestU01 (Salmon et al. 2011, table 2)
_PARITY = 0x1BD11BDA
_now = threading.local()  # a strategy traces its replicas in threads of their own


@contextlib.contextmanager
def drawing(seed: int, positions: Any) -> Iterator[None]:
    """Within, layers draw for the examples at these positions: uint32 [n, 2], low and high word."""
    before = getattr(_now, "draw", None)
    _now.draw = (seed, positions)
    try:
        yield
    finally:
        _now.draw = before


def threefry(key_words: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 with 13 rounds (Salmon et al. 2011, section 3.2) of uint32 tensors that broadcast: two words each."""
    keys = (*key_words, ops.bitwise_xor(ops.bitwise_xor(*key_words), _word(_PARITY)))
    # By `+`: keras.ops.add of [1, n] and [n, 1] takes the second for a bias on TensorFlow (Keras 3.15.1).
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(_ROUNDS):
        turn = _ROTATIONS[number % 8]
        x = x + y
        y = ops.bitwise_or(ops.left_shift(y, _word(turn)), ops.right_shift(y, _word(32 - turn)))
        y = ops.bitwise_xor(y, x)
        if number % 4 == 3:
            injection = number // 4 + 1
            x = x + keys[injection % 3]
            y = y + keys[(injection + 1) % 3] + _word(injection)
    return x, y


class _Positional(keras.layers.Layer):
    """A layer that keeps each of some numbers with probability 1 - rate, and makes up for the others."""

    def __init__(self, rate: float, **options: Any):
        """
        Args:
          rate: the fraction to drop, in [0, 1).
          options: of keras.layers.Layer.
        """
        super().__init__(**options)
        if not 0 <= rate < 1:
            raise ValueError(
                f"rate={rate} of {self.name} is not possible: give a number from 0 up to but not including 1."
            )
        self.rate = rate
        self.supports_masking = True

    def _kept(self, examples: int | None, numbers: int) -> Any:
        """bool [n, numbers]: whether to keep each of so many numbers of each of n `examples`."""
        draw = getattr(_now, "draw", None)
        if draw is None:
            raise ValueError(
                f"{self.name} draws by the examples' positions in the training stream, which only a run of Convoy knows; call"
                " the model with training=False, or within convoy.trainer.layers.drawing(seed, positions)."
            )
        seed, positions = draw
        if examples not in (None, positions.shape[0]):
            raise ValueError(
                f"{self.name} gets {examples} examples of a batch of {positions.shape[0]}: it draws for each example by its"
                " position, so it must stand where the first dimension is still the batch."
            )
        layer = key(seed, "mask", self.name)
        low, high = positions[:, :1], positions[:, 1:]
        # First a key for each example, then words for its numbers: two by two.
        example = threefry((_word(layer & 0xFFFFFFFF), _word(layer >> 32)), (low, high))
        pairs = ops.convert_to_tensor(np.arange(-(-numbers // 2), dtype=np.uint32)[None])
        words = ops.concatenate(threefry(example, (pairs, ops.zeros_like(pairs))), axis=1)[:, :numbers]
        return ops.greater_equal(words, _word(min(round(self.rate * 2**32), 2**32 - 1)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("convoy")
class Dropout(_Positional):
    """Sets a fraction `rate` of its inputs to 0 in training and scales the rest by 1 / (1 - rate) (Srivastava et al. 2014).

    Any shape [n, ...] in, the same out; the mask is a function of (seed, the layer's name, position of the example).
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        shape = inputs.shape[1:]
        numbers = 1
        for side in shape:
            numbers *= side
        kept = ops.reshape(self._kept(inputs.shape[0], numbers), (-1, *shape))
        return ops.where(kept, inputs / (1 - self.rate), ops.zeros_like(inputs))


@keras.saving.register_keras_serializable("convoy")
class StochasticDepth(_Positional):
    """Sets the whole branch of an example to 0 with probability `rate` in training, else scales it by 1 / (1 - rate).

    Huang et al. 2016, section 3, with the scaling moved from test to training. To be put at the end of a residual branch,
    before it is added. Any shape [n, ...] in, the same out.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return inputs
        kept = ops.reshape(self._kept(inputs.shape[0], 1), (-1, *[1] * (len(inputs.shape) - 1)))
        return ops.where(kept, inputs / (1 - self.rate), ops.zeros_like(inputs))


def positional(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model that draw by position, nested ones too."""
    return [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, _Positional)]


def stock_generators(model: keras.Model) -> list[Any]:
    """The generators of Keras' own random layers in a model, each once."""
    found: dict[int, Any] = {}
    for layer in model._flatten_layers(include_self=True):
        found |= {id(generator): generator for generator in layer._seed_generators}
    return list(found.values())


def without(model: keras.Model) -> keras.Model:
    """The same model with ours replaced by nothing, nested ones too: for inference, by people who have no Convoy.

    ValueError for a subclassed model that has any of ours: Keras cannot say what such a one consists of.
    """
    if not positional(model):
        return model
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise ValueError(
            f"{model.name} is a subclassed model; take the layers of convoy.trainer.layers out of it yourself."
        )
    copy = model.__class__.from_config(_cleaned(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _cleaned(config: Any) -> Any:
    """A model's configuration with Identity in place of our layers, at any depth."""
    if isinstance(config, list | tuple):
        return type(config)(map(_cleaned, config))
    if not isinstance(config, dict):
        return config
    if config.get("registered_name") in ("convoy>Dropout", "convoy>StochasticDepth"):
        kept = {name: config["config"][name] for name in ("name", "trainable", "dtype")}
        return {**config, "module": "keras.layers", "class_name": "Identity", "registered_name": None, "config": kept}
    return {name: _cleaned(value) for name, value in config.items()}


def _word(number: int) -> Any:
    return ops.convert_to_tensor(number, dtype="uint32")
