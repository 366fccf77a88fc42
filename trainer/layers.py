"""Dropout and stochastic depth whose masks are a pure function of (seed, layer, position of the example).

Keras' own layers keep a counter in a variable. So the mask of an example depends on how many devices share the batch, and
several devices draw the same mask. These layers use the position of each example in the training stream, in exact integer
arithmetic: the masks are identical on both engines and on any number of devices.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from convoy.data.keys import key
from convoy.trainer.threefry import threefry, word

_context = threading.local()  # a strategy traces each replica in its own thread


class Draw(NamedTuple):
    """What random layers draw for: the run's seed, and positions in the training stream, uint32 [n, 2], low and high word."""

    seed: int
    positions: Any

    @property
    def examples(self) -> int:
        return self.positions.shape[0]

    def words(self, numbers: int, *stream: object) -> Any:
        """uint32 [n, numbers], all values equally likely; other ones for another `stream`, a name of any parts."""
        layer = key(self.seed, *stream)
        low, high = self.positions[:, :1], self.positions[:, 1:]
        # A key for each example, then its words, which a block gives in pairs.
        example_keys = threefry((word(layer & 0xFFFFFFFF), word(layer >> 32)), (low, high))
        pairs = ops.convert_to_tensor(np.arange(-(-numbers // 2), dtype=np.uint32)[None])
        return ops.concatenate(threefry(example_keys, (pairs, ops.zeros_like(pairs))), axis=1)[:, :numbers]


def threshold(rate: float) -> Any:
    """The uint32 that words are at least with probability 1 - rate."""
    return word(min(round(rate * 2**32), 2**32 - 1))


@contextlib.contextmanager
def drawing(seed: int, positions: Any) -> Iterator[None]:
    """Within the context, layers draw for the examples at these positions: uint32 [n, 2], low and high word."""
    outer = current_draw()
    _context.draw = Draw(seed, positions)
    try:
        yield
    finally:
        _context.draw = outer


def current_draw() -> Draw | None:
    """What layers draw for now, in this thread; None outside a training step."""
    return getattr(_context, "draw", None)


class _Positional(keras.layers.Layer):
    """A layer that keeps each number with probability 1 - rate, and scales those it keeps by 1 / (1 - rate)."""

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
        """bool [n, numbers]: whether to keep each of the `numbers` of each of n `examples`."""
        draw = current_draw()
        if draw is None:
            raise ValueError(
                f"{self.name} draws by the examples' positions in the training stream, which only a run of Convoy knows; call"
                " the model with training=False, or within convoy.trainer.layers.drawing(seed, positions)."
            )
        if examples not in (None, draw.examples):
            raise ValueError(
                f"{self.name} gets {examples} examples of a batch of {draw.examples}: it draws for each example by its"
                " position, so it must stand where the first dimension is still the batch."
            )
        words = draw.words(numbers, "mask", self.name)
        return ops.greater_equal(words, threshold(self.rate))

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

    Huang et al. 2016, section 3, with the scaling moved from test to training. Put it at the end of a residual branch,
    before the addition. Any shape [n, ...] in, the same out.
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
    generators: dict[int, Any] = {}
    for layer in model._flatten_layers(include_self=True):
        generators |= {id(generator): generator for generator in layer._seed_generators}
    return list(generators.values())


def without(model: keras.Model) -> keras.Model:
    """The same model without Convoy's layers, nested ones too: for inference where Convoy is not installed.

    Raises:
      ValueError: a subclassed model has such layers, and Keras cannot list the parts of a subclassed model.
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
    """A model's configuration with Identity in place of Convoy's layers, at any depth."""
    if isinstance(config, list | tuple):
        return type(config)(map(_cleaned, config))
    if not isinstance(config, dict):
        return config
    if config.get("registered_name") in ("convoy>Dropout", "convoy>StochasticDepth"):
        kept = {name: config["config"][name] for name in ("name", "trainable", "dtype")}
        return {**config, "module": "keras.layers", "class_name": "Identity", "registered_name": None, "config": kept}
    return {name: _cleaned(value) for name, value in config.items()}
