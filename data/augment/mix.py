"""MixUp and CutMix: the images of positions 2i and 2i + 1 become one another's partners."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import special

from convoy.data.arrays import Array, Boxes, Images, LabelPairs, Labels, LabelWeights, PerImage, Valid
from convoy.data.augment.color import to_levels
from convoy.data.augment.erase import inside
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges

_QUANTILES = 1024
_QUANTUM = 2**-14


class Mixed(NamedTuple):
    """Images and targets after mixing; without it each label stands twice, with the weights 1 and 0."""

    images: Images
    labels: LabelPairs
    label_weights: LabelWeights


def mix(images: Images, labels: Labels, valid: Valid, positions: PositionRanges, recipe: Recipe) -> Mixed:
    """Makes the images of positions 2i and 2i + 1 partners.

    MixUp (Zhang et al. 2018) blends both images of a pair; each keeps a share that follows Beta(alpha, alpha). CutMix (Yun et
    al. 2019) swaps a box, whose area is 1 minus such a share before the edges of the image cut it; an image's share is that of
    the pixels it keeps. With both, a pair draws one of them, half of the time each. An image that does not count has weight 0
    in either target, and its partner has the share that it keeps.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      valid: float32 [n], 1 or 0: whether an image counts.
      positions: theirs; with a recipe that mixes, in pairs.
      recipe: whether and how to mix.
    """
    if not recipe.mixes:
        return Mixed(images, tf.stack([labels, labels], axis=1), tf.stack([valid, tf.zeros_like(valid)], axis=1))
    _, height, width, _ = images.shape
    # A pair's numbers are those of its even position.
    uniform, choice, down, across, *_ = tf.unstack(positions.uniforms(8, "mix")[::2], axis=1)
    cuts = choice < ((0.5 if "mixup" in recipe else 1.0) if "cutmix" in recipe else 0.0)
    shares = [beta(recipe.number(name), uniform) for name in ("mixup", "cutmix") if name in recipe]
    share = tf.where(cuts, shares[-1], shares[0])
    boxes = _boxes(tf.where(cuts, tf.sqrt(1 - share), 0.0), down, across, height, width)
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    swapped = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
    kept = tf.repeat(tf.where(cuts, 1 - swapped, share), 2)
    weights = tf.stack([kept * valid, (1 - kept) * _partners(valid)], axis=1)
    images = _blended(images, tf.where(cuts, 1.0, share), boxes)
    return Mixed(images, tf.stack([labels, _partners(labels)], axis=1), weights)


def beta(alpha: float, uniform: PerImage) -> PerImage:
    """Turns uniform numbers in [0, 1), float32 [n], into as many that follow Beta(alpha, alpha), to the nearest 2**-14.

    They are interpolated between 1,025 exact quantiles. So the distribution function is off by at most 1/1024, whatever alpha
    is, before the numbers are rounded.
    """
    quantiles = special.betaincinv(alpha, alpha, np.linspace(0, 1, _QUANTILES + 1))
    place = uniform * _QUANTILES
    first = tf.cast(place, tf.int32)
    low, high = (tf.gather(tf.constant(quantiles, tf.float32), first + step) for step in (0, 1))
    return tf.round((low + (high - low) * (place - tf.cast(first, tf.float32))) / _QUANTUM) * _QUANTUM


def _boxes(sides: PerImage, down: PerImage, across: PerImage, height: int, width: int) -> Boxes:
    """Boxes with uniform centres, whose sides are these shares of the image's before its edges cut them."""
    edges = []
    for number, length in ((down, height), (across, width)):
        side = tf.cast(tf.round(sides * length), tf.int32)
        start = tf.cast(number * length, tf.int32) - side // 2
        edges.append((tf.maximum(start, 0), tf.minimum(start + side, length)))
    (top, bottom), (left, right) = edges
    return tf.stack([top, left, bottom, right], axis=1)


# XLA makes one loop of it.
@tf.function(jit_compile=True, autograph=False)
def _blended(images: Images, shares: PerImage, boxes: Boxes) -> Images:
    """Blends each pair: an image keeps its share, float32 [n / 2], of itself, and within the pair's box nothing."""
    _, height, width, channels = images.shape
    pairs = tf.cast(tf.reshape(images, [-1, 2, height, width, channels]), tf.float32)
    own = tf.where(inside(boxes, height, width), 0.0, shares[:, None, None])[:, None, ..., None]
    partners = pairs[:, ::-1]
    # Products of levels and multiples of 2**-14 are exact in float32: nothing depends on how they are added.
    return to_levels(tf.reshape(partners + (pairs - partners) * own, [-1, height, width, channels]))


def _partners(rows: Array) -> Array:
    """Swaps rows 2k and 2k + 1 of [n]."""
    return tf.reshape(tf.reshape(rows, [-1, 2])[:, ::-1], [-1])
