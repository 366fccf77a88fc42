"""A loop over the rows of arrays, within a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from convoy.data.arrays import Array

Rows = TypeVar("Rows")


def map_rows(function: Callable[[Rows], Array], rows: Rows, row: tf.TensorSpec) -> Array:
    """`function` of each row of the arrays in a structure, of equal length; what is no array is handed to it as it is.

    tf.map_fn takes arrays alone, and each costs every turn of its loop half a dozen operations.
    """
    leaves = tf.nest.flatten(rows)

    def apply(arrays: list[Array]) -> Array:
        own = iter(arrays)
        return function(tf.nest.pack_sequence_as(rows, [next(own) if tf.is_tensor(leaf) else leaf for leaf in leaves]))

    return tf.map_fn(apply, [leaf for leaf in leaves if tf.is_tensor(leaf)], fn_output_signature=row)
