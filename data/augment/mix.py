"""MixUp and CutMix: the images of positions 2i and 2i + 1 become one another's partners."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy import special

from convoy.data.augment.color import to_levels
from convoy.data.augment.erase import inside
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges

_QUANTILES = 1024
_QUANTUM = 2**-14


def mix(
    images: tf.Tensor, labels: tf.Tensor, counts: tf.Tensor, positions: PositionRanges, recipe: Recipe
) -> list[tf.Tensor]:
    """[images uint8 [n, h, w, c], labels int32 [n, 2], shares float32 [n, 2]]: see convoy.data.pipeline.Batch.

    MixUp (Zhang et al. 2018): both images of a pair are blended, each keeping a share that follows Beta(alpha, alpha).
    CutMix (Yun et al. 2019): they swap a box, whose area is 1 minus such a share before its edges are cut at the image's;
    an image's share is that of the pixels it keeps. With both, a pair draws one of them, half of the time each. An image
    that does not count has share 0 of either target, and its partner the share that it keeps.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      counts: float32 [n], 1 or 0: whether an image counts.
      positions: theirs; with a recipe that mixes, in pairs.
      recipe: whether and how to mix.
    """
    if not recipe.mixes:
        return [images, tf.stack([labels, labels], axis=1), tf.stack([counts, tf.zeros_like(counts)], axis=1)]
    _, height, width, _ = images.shape
    # A pair's numbers are those of its even position.
    uniform, choice, down, across, *_ = tf.unstack(positions.uniforms(8, "mix")[::2], axis=1)
    cuts = choice < ((0.5 if "mixup" in recipe else 1.0) if "cutmix" in recipe else 0.0)
    drawn = [beta(recipe.number(name), uniform) for name in ("mixup", "cutmix") if name in recipe]
    share = tf.where(cuts, drawn[-1], drawn[0])
    boxes = _boxes(tf.where(cuts, tf.sqrt(1 - share), 0.0), down, across, height, width)
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    swapped = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
    kept = tf.repeat(tf.where(cuts, 1 - swapped, share), 2)
    shares = tf.stack([kept * counts, (1 - kept) * _partners(counts)], axis=1)
    images = _blended(images, tf.where(cuts, 1.0, share), boxes)
    return [images, tf.stack([labels, _partners(labels)], axis=1), shares]


def beta(alpha: float, uniform: tf.Tensor) -> tf.Tensor:
    """Numbers float32 [n], uniform in [0, 1) -> as many that follow Beta(alpha, alpha), to the nearest 2**-14.

    Interpolated between 1,025 exact quantiles: each lies between those on either side of the uniform number, so that the
    distribution function is off by at most 1/1024, whatever alpha is, before the numbers are rounded.
    """
    quantiles = special.betaincinv(alpha, alpha, np.linspace(0, 1, _QUANTILES + 1))
    place = uniform * _QUANTILES
    first = tf.cast(place, tf.int32)
    low, high = (tf.gather(tf.constant(quantiles, tf.float32), first + step) for step in (0, 1))
    return tf.round((low + (high - low) * (place - tf.cast(first, tf.float32))) / _QUANTUM) * _QUANTUM


def _boxes(sides: tf.Tensor, down: tf.Tensor, across: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Boxes int32 [n, 4] as in erase.inside, with sides that are these shares of the image's before its edges
    cut them, and uniform centres."""
    edges = []
    for number, length in ((down, height), (across, width)):
        side = tf.cast(tf.round(sides * length), tf.int32)
        start = tf.cast(number * length, tf.int32) - side // 2
        edges.append((tf.maximum(start, 0), tf.minimum(start + side, length)))
    (top, bottom), (left, right) = edges
    return tf.stack([top, left, bottom, right], axis=1)


# XLA makes one loop of it.
@tf.function(jit_compile=True, autograph=False)
def _blended(images: tf.Tensor, shares: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Both images of each pair with this share of themselves, float32 [n / 2], and within its box nothing of themselves."""
    _, height, width, channels = images.shape
    pairs = tf.cast(tf.reshape(images, [-1, 2, height, width, channels]), tf.float32)
    own = tf.where(inside(boxes, height, width), 0.0, shares[:, None, None])[:, None, ..., None]
    partners = pairs[:, ::-1]
    # Products of levels and multiples of 2**-14 are exact in float32: nothing depends on how they are added.
    return to_levels(tf.reshape(partners + (pairs - partners) * own, [-1, height, width, channels]))


def _partners(rows: tf.Tensor) -> tf.Tensor:
    """Rows 2k and 2k + 1 of [n] in one another's place."""
    return tf.reshape(tf.reshape(rows, [-1, 2])[:, ::-1], [-1])
