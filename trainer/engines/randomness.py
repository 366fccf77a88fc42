"""Keras' own random layers on several replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from convoy.trainer import layers

NOTE = (
    "{model} draws random numbers in Keras' own layers ({path}): the run ends elsewhere on another number of devices. Take"
    " Dropout and StochasticDepth from convoy.trainer.layers to have it the same everywhere."
)


def decorrelate_replicas(model: keras.Model, replica: Callable[[], Any]) -> None:
    """Gives every replica its own stream of each generator in a model; left alone, they would all draw the same.

    `replica` says, inside a step, which one is asking. The generators' states stay equal on all, so a checkpoint holds one.
    """
    for generator in layers.stock_generators(model):
        generator.next = _shifted(generator.next, replica)


def note(model: keras.Model, name: str) -> list[str]:
    """What the start-up block has to say about a model's random layers."""
    drawing = [layer for layer in model._flatten_layers() if layer._seed_generators]
    return [NOTE.format(model=name, path=drawing[0].path or drawing[0].name)] if drawing else []


def _shifted(draw: Callable[..., Any], replica: Callable[[], Any]) -> Callable[..., Any]:
    def next_seed(*args: Any, **kwargs: Any) -> Any:
        seed = draw(*args, **kwargs)
        # Any odd constant keeps streams apart; this one spreads the bits (2**31 over the golden ratio).
        shift = keras.ops.stack([replica(), 0 * replica()]) * 1327217885
        return seed + keras.ops.cast(shift, seed.dtype)

    return next_seed
