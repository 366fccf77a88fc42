"""How windows of images are decoded, worked out for a whole batch before any of its files is open.

For a single image it would take dozens of operations on one or two numbers, each of which costs the executor as much as one on
the numbers of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from convoy.data.arrays import Array, Window

SHRINKS = (1, 2, 4, 8)  # by which a JPEG can be reduced while it is decoded
_BLOCK = 16  # columns that are decoded together, where chroma is halved
_MIN_COLUMNS = 5  # of a part; of fewer, libjpeg repeats chroma


class Part(NamedTuple):
    """A window of a JPEG, reduced or not: what is decoded, and which of that is the window. All int32."""

    decoded: Array  # [4]
    begin: Array  # [3]
    size: Array  # [3]; -1 is all from `begin` on


class Plan(NamedTuple):
    """How a window is decoded. Few arrays: a loop over images spends half a dozen operations on each of them.

    Those of a batch have an axis in front.
    """

    reduced: Array  # bool []: whether by two or more, where not `smooth`
    pixels: Array  # int32 [13]
    windows: Array  # float32 [8]

    def split_pixels(self) -> tuple[Array, Part, Array]:
        """(Sides of what is stored, the part of a JPEG that is decoded, which of SHRINKS it is reduced by while it is)."""
        sides, decoded, begin, size, shrink = tf.split(self.pixels, [2, 4, 3, 3, 1])
        return sides, Part(decoded, begin, size), shrink[0]

    def split_windows(self) -> tuple[Window, Window]:
        """The window of what is stored, and the same of the part that is decoded."""
        stored, within = tf.split(self.windows, 2)
        return stored, within


def plan(
    orientation: Array | int,
    height: Array,
    width: Array,
    window: Array,
    size: tuple[int, int],
    smooth: bool,
    cubic: bool = False,
) -> Plan:
    """Plans for one image or a batch: facts of files as in decode.File, all else as in decode.part."""
    sides = stored_sides(orientation, height, width)
    stored = _stored(window, orientation, height, width)
    target = tf.where(tf.expand_dims(orientation >= 5, -1), size[::-1], size)
    pixel = stored[..., 2:] / tf.cast(target, tf.float32)
    reduction = tf.reduce_min(pixel, axis=-1)
    # A reduction within the decoder is another filter; where a test is measured at least half is left to ours.
    allowed = tf.expand_dims(reduction / 2 if smooth else reduction, -1)
    shrink = tf.reduce_sum(tf.cast(allowed >= SHRINKS[1:], tf.int32), axis=-1, keepdims=True)
    by = tf.gather(SHRINKS, shrink)
    # As far around the window as the filter reaches, in pixels of the smaller image; bilinear ones are whole pixels.
    reach = tf.math.ceil(2 * tf.maximum(pixel, 1.0) if smooth and cubic else pixel)
    first = tf.maximum(tf.cast(stored[..., :2] - reach, tf.int32) // by, 0)
    end = tf.cast(tf.math.ceil(stored[..., :2] + stored[..., 2:] + reach), tf.int32)
    end = tf.minimum(-(-end // by), -(-sides // by))
    around = tf.concat([first, end - first], axis=-1)
    reduced = reduction >= 2
    seen = around if smooth else tf.where(reduced[..., None], around, tf.cast(stored, tf.int32))
    factor = tf.cast(by, tf.float32)
    within = [stored[..., :2] / factor - tf.cast(first, tf.float32), stored[..., 2:] / factor]
    return Plan(
        reduced,
        tf.concat([sides, *jpeg_part(seen, sides, by[..., 0]), shrink], axis=-1),
        tf.concat([stored, *within], axis=-1),
    )


def jpeg_part(window: Array, sides: Array, by: Array | int = 1) -> Part:
    """How a window, int32 [4], of a JPEG reduced `by` 1, 2, 4 or 8 is decoded; or those of a batch. `sides` are not reduced.

    The pixels are those of the whole image. Chroma is interpolated within what is decoded: that is a column more where a
    window begins with a block, or ends within a pair that shares chroma, and never so few that chroma would be repeated.
    It begins with a block, from which libjpeg decodes anyhow; TensorFlow would copy each row once more from within one.
    """
    top, left, height, width = tf.unstack(window, axis=-1)
    block = _BLOCK // by
    columns, right = -(-sides[..., 1] // by), left + width
    first = tf.where(left % block == 0, tf.maximum(left - 1, 0), left)
    end = tf.minimum(tf.maximum(right + 1 - right % 2, first + _MIN_COLUMNS), columns)
    first = tf.minimum(first, tf.maximum(end - _MIN_COLUMNS, 0))
    first -= first % block
    zero = tf.zeros_like(left)
    begin, size = (zero, left - first, zero), (zero - 1, width, zero - 1)
    return Part(*(tf.stack(numbers, axis=-1) for numbers in ((top, first, height, end - first), begin, size)))


def stored_sides(orientation: Array | int, height: Array, width: Array) -> Array:
    """Height and width of what is stored, of those of upright images: int32 [..., 2]."""
    across = tf.expand_dims(orientation >= 5, -1)
    return tf.where(across, tf.stack((width, height), axis=-1), tf.stack((height, width), axis=-1))


def mirrored(orientation: Array | int) -> tuple[Array, Array]:
    """Whether (rows, columns) run backwards (EXIF 2.3, section 4.6.4, tag 274), of one image or a batch."""
    # Not by ==, to which a number of Python is unequal to any tuple.
    across = tf.expand_dims(orientation, -1)
    return tuple(tf.reduce_any(tf.equal(across, values), axis=-1) for values in ((3, 4, 7, 8), (2, 3, 6, 7)))


def _stored(window: Array, orientation: Array | int, height: Array, width: Array) -> Array:
    """Windows of upright images as those of what is stored; height and width are the upright image's."""
    top, left, tall, wide = tf.unstack(window, axis=-1)
    down, right = mirrored(orientation)
    top = tf.where(down, tf.cast(height, tf.float32) - top - tall, top)
    left = tf.where(right, tf.cast(width, tf.float32) - left - wide, left)
    across = tf.expand_dims(orientation >= 5, -1)
    return tf.where(across, tf.stack((left, top, wide, tall), axis=-1), tf.stack((top, left, tall, wide), axis=-1))
