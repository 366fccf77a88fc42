"""Windows: the part of an image that is shown, and its size. They are (top, left, height, width), float32 [n, 4]."""

from __future__ import annotations

import math

import tensorflow as tf

from convoy.data.arrays import Array, Image, PerImage, Uniforms, Window, Windows
from convoy.data.images.view import View

NUMBERS = 24  # random numbers that a window takes
_TRIES = 10
_ASPECT = math.log(4 / 3)


def centre_windows(heights: PerImage, widths: PerImage, view: View) -> Windows:
    """What a view shows of images: int32 [n], int32 [n] -> float32 [n, 4].

    A side is brought to size / fraction pixels, rounded down as timm does, and the `size` in its centre are shown. It is the
    shorter side with "crop", where the other is rounded up to whole pixels; the longer one with "pad", where the other is
    rounded to the nearest, and the window may reach beyond the image; each by itself with "squash". A window may begin at a
    fraction of one of the original's pixels.
    """
    # Sides of 20 million pixels times a size are more than 32 bits hold.
    shapes = tf.cast(tf.stack([heights, widths], axis=1), tf.int64)
    side = int(view.size / view.fraction)
    if view.fit == "crop":
        scaled = -(-shapes * side // tf.reduce_min(shapes, axis=1, keepdims=True))
    elif view.fit == "pad":
        longer = tf.reduce_max(shapes, axis=1, keepdims=True)
        scaled = tf.maximum((2 * shapes * side + longer) // (2 * longer), 1)
    else:
        scaled = side * tf.ones_like(shapes)
    pixel = tf.cast(shapes, tf.float32) / tf.cast(scaled, tf.float32)
    # Of an odd number of pixels beside the image, the smaller part comes first.
    return tf.concat([tf.cast(tf.truncatediv(scaled - view.size, 2), tf.float32) * pixel, view.size * pixel], axis=1)


def random_windows(numbers: Uniforms, heights: PerImage, widths: PerImage, min_area: float) -> Windows:
    """Random parts of images (random-resized-crop; Szegedy et al. 2015, section 6): float32 [n, 4], whole numbers.

    A share of the area from `min_area` to 1 and a logarithm of the aspect ratio between 3/4 and 4/3, each uniform, ten
    times; the first that fits inside the image is taken, anywhere in it. Where none fits it is the largest centred part whose
    aspect ratio is in these bounds. torchvision.transforms.RandomResizedCrop draws from the same distribution.

    Args:
      numbers: float32 [n, NUMBERS] in [0, 1).
      heights, widths: int32 [n].
      min_area: in (0, 1].
    """
    height, width = (tf.cast(sides, tf.float32)[:, None] for sides in (heights, widths))
    area = height * width * (min_area + (1 - min_area) * numbers[:, :_TRIES])
    # In float64: TensorFlow's float32 exponential of the same number depends on where in the batch it stands.
    aspect = tf.exp(_ASPECT * (2 * tf.cast(numbers[:, _TRIES : 2 * _TRIES], tf.float64) - 1))
    aspect = tf.cast(aspect, tf.float32)
    tall, wide = tf.round(tf.sqrt(area / aspect)), tf.round(tf.sqrt(area * aspect))
    fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
    # Where none fits: as wide as 4/3 of the height allows, as tall as 4/3 of the width.
    tall = tf.concat([tall, tf.minimum(height, tf.round(width * 4 / 3))], axis=1)
    wide = tf.concat([wide, tf.minimum(width, tf.round(height * 4 / 3))], axis=1)
    fits = tf.pad(fits, [[0, 0], [0, 1]], constant_values=True)
    first = tf.argmax(fits, axis=1)[:, None]
    tall, wide = (tf.gather(side, first, batch_dims=1) for side in (tall, wide))
    place = numbers[:, 2 * _TRIES : 2 * _TRIES + 2] * tf.concat([height - tall + 1, width - wide + 1], axis=1)
    centre = tf.concat([(height - tall) // 2, (width - wide) // 2], axis=1)
    corner = tf.where(first == _TRIES, centre, tf.floor(place))
    return tf.concat([corner, tall, wide], axis=1)


def resampled(pixels: Array, window: Window, size: tuple[int, int] | Array, cubic: bool = False) -> Image:
    """A window of an image at another size, by a triangle filter as wide as a pixel of the result: antialiased.

    `cubic`: by Keys' cubic filter, twice as wide, which Pillow and timm call bicubic (Keys 1981, with a = -1/2).

    Args:
      pixels: uint8 [h, w, c].
      window: float32 [4], (top, left, height, width); pixels outside of it count where the filter reaches them, and what lies
        outside of the image is black.
      size: (height, width).

    Returns:
      uint8 [height, width, c], rounded.
    """
    scale = tf.cast(size, tf.float32) / window[2:]
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=size,
        scale=scale,
        translation=-window[:2] * scale,
        kernel_type="keyscubic" if cubic else "triangle",
        antialias=True,
    )
    # A cubic filter overshoots.
    return rounded_half_up(tf.clip_by_value(resized[0], 0.0, 255.0) if cubic else resized[0])


def rounded_half_up(values: Array) -> Array:
    """Levels, float32 from 0 to 255 -> uint8. TensorFlow's own round takes halves to the even neighbour."""
    return tf.cast(values + 0.5, tf.uint8)
