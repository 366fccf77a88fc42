"""Keras' own random layers on several replicas."""

from __future__ import annotations

from collections.abc import Callable

import keras

from convoy.data.arrays import Array, Scalar
from convoy.trainer import layers
from convoy.trainer.engines import patches

NOTE = (
    "{model} draws random numbers in Keras' own layers ({path}): the run ends elsewhere on another number of devices. Take"
    " Dropout and StochasticDepth from convoy.trainer.layers to have it the same everywhere."
)


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
    """What the start-up block has to say about a model's random layers."""
    drawing = [layer for layer in model._flatten_layers() if layer._seed_generators]
    return [NOTE.format(model=name, path=drawing[0].path or drawing[0].name)] if drawing else []
