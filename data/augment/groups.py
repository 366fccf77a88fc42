"""Changes the rows of a batch in different ways, each row by its own change only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from convoy.data.arrays import Array, PerImage

GroupChange = Callable[[Array, Array], Array]


def by_group(batch: Array, groups: PerImage, changes: Sequence[GroupChange]) -> Array:
    """The batch after row i went through change number groups[i].

    Args:
      batch: [n, ...].
      groups: integers [n]: 0 for a row that stays as it is, k for changes[k - 1].
      changes: each makes (some rows [m, ...] of the batch, their numbers int32 [m]) into as many rows; m may be 0.
    """
    numbers = tf.dynamic_partition(tf.range(tf.shape(batch)[0]), tf.cast(groups, tf.int32), len(changes) + 1)
    kept, *parts = (tf.gather(batch, rows) for rows in numbers)
    changed = [change(part, rows) for change, part, rows in zip(changes, parts, numbers[1:], strict=True)]
    return tf.ensure_shape(tf.dynamic_stitch(numbers, [kept, *changed]), batch.shape)
