"""Updates that can be taken back.

By selection, not by a condition: under a strategy Keras' optimizers cannot stand inside one. While a step is computed, what it
may take back is in memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def snapshot(variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    """Their values, in the graph before whatever changes them: TensorFlow keeps a function's reads and writes in order."""
    return [tf.identity(variable) for variable in variables]


def restore_unless(variables: Sequence[tf.Variable], before: list[tf.Tensor], unless: tf.Tensor | None = None) -> None:
    """Gives `variables` the values of `before` again, where `unless` is false if it is given."""
    for variable, old in zip(variables, before, strict=True):
        variable.assign(old if unless is None else tf.where(unless, variable, old))
