"""Updates that can be taken back.

Uses tf.where instead of tf.cond: Keras' optimizers cannot be called inside a tf.cond under tf.distribute. While a step is
computed, the variables that it may restore are in memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def snapshot(variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
    """Copies of their values, read before later operations write them: TensorFlow keeps reads and writes in order."""
    return [tf.identity(variable) for variable in variables]


def restore_unless(variables: Sequence[tf.Variable], before: list[tf.Tensor], unless: tf.Tensor | None = None) -> None:
    """Restores the values of a snapshot; with `unless`, only where that is false."""
    for variable, old in zip(variables, before, strict=True):
        variable.assign(old if unless is None else tf.where(unless, variable, old))
