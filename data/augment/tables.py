"""Colour by tables: what a level becomes, for each image and channel, looked up once for every pixel.

Tables are uint8 [n, c, 256], or [n, 1, 256] for all channels alike; the functions have Pillow's names, and are within one
level of it, because they round where Pillow cuts off.
"""

from __future__ import annotations

import tensorflow as tf

from convoy.data.arrays import Array, Images, PerImage, Tables
from convoy.data.augment.color import greys_of, to_levels


# XLA makes one loop of it, fifteen times as fast as TensorFlow's gather of single bytes.
@tf.function(jit_compile=True, autograph=False)
def look_up(images: Images, tables: Tables) -> Images:
    """Images uint8 [n, h, w, c] through tables uint8 [n, c, 256]."""
    count, channels = tf.shape(images)[0], images.shape[-1]
    first = (tf.range(count)[:, None] * channels + tf.range(channels)) * 256
    return tf.gather(tf.reshape(tables, [-1]), first[:, None, None] + tf.cast(images, tf.int32))


def histograms(images: Images) -> Array:
    """How many pixels of images uint8 [n, h, w, c] have each level: int32 [n, c, 256]."""
    _, height, width, channels = images.shape
    tables = tf.shape(images)[0] * channels
    first = tf.tile(tf.reshape(tf.range(tables) * 256, [-1, 1, channels]), [1, 1, width])
    places = tf.reshape(tf.cast(images, tf.int32), [-1, height, width * channels]) + first
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(places, [-1]), size=tables * 256, weights=tf.zeros([0], tf.int32)
    )
    return tf.reshape(counts, [-1, channels, 256])


def brightness(factors: PerImage) -> Tables:
    """Factors float32 [n]: towards black (0) or away from it (above 1)."""
    return to_levels(factors[:, None, None] * tf.range(256.0))


def contrast(counts: Array, factors: PerImage) -> Tables:
    """Towards the image's mean grey or away from it, by its histograms int32 [n, c, 256]."""
    sums = tf.reduce_sum(tf.cast(counts, tf.float64) * tf.range(256.0, dtype=tf.float64), axis=2)
    pixels = tf.reduce_sum(tf.cast(counts[:, 0], tf.float64), axis=1, keepdims=True)
    grey, factor = greys_of(sums / pixels)[:, None, None], factors[:, None, None]
    return tf.tile(to_levels(grey + factor * (tf.range(256.0) - grey)), [1, counts.shape[1], 1])


def posterize(bits: PerImage) -> Tables:
    """Only the upper bits of each level: int32 [n], 0 to 8."""
    dropped = (8 - bits)[:, None, None]
    return tf.cast(tf.bitwise.left_shift(tf.bitwise.right_shift(tf.range(256), dropped), dropped), tf.uint8)


def solarize(thresholds: PerImage) -> Tables:
    """Levels of a threshold, float32 [n], and above are inverted."""
    levels = tf.range(256.0)
    return tf.cast(tf.where(levels < thresholds[:, None, None], levels, 255 - levels), tf.uint8)


def autocontrast(counts: Array) -> Tables:
    """Each channel stretched so that its darkest level becomes 0 and its lightest 255; a single level stays."""
    levels, present = tf.range(256.0), counts > 0
    low = tf.reduce_min(tf.where(present, levels, 255.0), axis=2, keepdims=True)
    high = tf.reduce_max(tf.where(present, levels, 0.0), axis=2, keepdims=True)
    stretched = (levels - low) * (255 / tf.maximum(high - low, 1))
    return to_levels(tf.where(high > low, stretched, levels))


def equalize(counts: Array) -> Tables:
    """Each channel's levels spread so that its pixels fill 0 to 255 evenly; a single level stays. Exactly Pillow's."""
    below = tf.cumsum(counts, axis=2, exclusive=True)
    step = tf.reduce_max(tf.where(counts > 0, below, 0), axis=2, keepdims=True) // 255
    spread = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return tf.cast(tf.where(step > 0, spread, tf.range(256)), tf.uint8)
