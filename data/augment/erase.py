"""Random erasing (Zhong et al. 2020): a box of an image becomes noise."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Boxes, Images, PerImage
from convoy.data.keys import key
from convoy.data.order import PositionRanges

_MIN_AREA, _MAX_AREA, _ASPECT = 0.02, 1 / 3, 0.3  # shares of the image, and the narrowest (section 4.2 of the paper)


def erase(images: Images, positions: PositionRanges, probability: float) -> Images:
    """Images uint8 [n, h, w, c] with, each with this probability, a box of 0.02 to 0.33 of their area replaced.

    The box's sides are as 0.3 to 1 / 0.3 of one another, by a factor whose logarithm is uniform; a side that would be
    longer than the image is cut. A box is filled with a random level for each pixel and channel, the best of the paper's
    four fillings: rows of one sheet of noise, from a random row on.
    """
    _, height, width, channels = images.shape
    numbers = positions.uniforms(8, "erase")
    drawn, size, shape, above, before, row, *_ = tf.unstack(numbers, axis=1)
    area = (_MIN_AREA + (_MAX_AREA - _MIN_AREA) * size) * (height * width)
    # In float64: TensorFlow's float32 exponential of the same number depends on where in the batch it stands.
    aspect = tf.cast(tf.exp(math.log(_ASPECT) * tf.cast(2 * shape - 1, tf.float64)), tf.float32)
    area = tf.where(drawn < probability, area, 0.0)
    tall = tf.cast(tf.minimum(tf.round(tf.sqrt(area * aspect)), height), tf.int32)
    wide = tf.cast(tf.minimum(tf.round(tf.sqrt(area / aspect)), width), tf.int32)
    top = tf.cast(above * tf.cast(height - tall + 1, tf.float32), tf.int32)
    left = tf.cast(before * tf.cast(width - wide + 1, tf.float32), tf.int32)
    generator = np.random.Generator(np.random.Philox(key(positions.seed, "erase")))
    sheet = generator.integers(0, 256, (2 * height, width, channels), dtype=np.uint8)
    first = tf.cast(row * height, tf.int32)
    return _covered(images, tf.stack([top, left, top + tall, left + wide], axis=1), tf.constant(sheet), first)


def inside(boxes: Boxes, height: int, width: int) -> Array:
    """Boxes int32 [n, 4], top, left, bottom and right, the last two excluded -> bool [n, height, width]."""
    top, left, bottom, right = (edge[:, None] for edge in tf.unstack(boxes, axis=1))
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return in_rows[:, :, None] & in_columns[:, None, :]


@tf.function(jit_compile=True, autograph=False)
def _covered(images: Images, boxes: Boxes, sheet: Array, first: PerImage) -> Images:
    """Images with their boxes showing the sheet, whose row `first`, int32 [n], is the image's uppermost."""
    _, height, width, _ = images.shape
    noise = tf.gather(sheet, first[:, None] + tf.range(height))
    return tf.where(inside(boxes, height, width)[..., None], noise, images)
