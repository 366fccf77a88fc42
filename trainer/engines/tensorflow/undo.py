"""Updates that can be taken back.

By selection, not by a condition: under a strategy Keras' optimizers cannot stand inside one. While a step is computed, what it
may take back is in memory twice.
"""

from __future__ import annotations

import tensorflow as tf


def remember(variables: list[tf.Variable]) -> list[tf.Tensor]:
    """Their values, in the graph before whatever changes them: TensorFlow keeps a function's reads and writes in order."""
    return [tf.identity(variable) for variable in variables]


def take_back(variables: list[tf.Variable], before: list[tf.Tensor], unless: tf.Tensor) -> None:
    """Gives `variables` the values of `before` again where `unless` is false."""
    for variable, old in zip(variables, before, strict=True):
        variable.assign(tf.where(unless, variable, old))
