"""Colour that mixes channels or pixels: saturation, hue and sharpness; and --augment=color, one linear change.

Images are uint8 [n, h, w, c], c of 1 or 3. Results are rounded to the nearest level and cut off at 0 and 255.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Images, PerImage
from convoy.data.order import PositionRanges

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_QUANTUM = 2**-12


def to_levels(values: Array) -> Array:
    """Numbers, any -> the nearest levels, uint8."""
    return tf.cast(tf.round(tf.clip_by_value(values, 0.0, 255.0)), tf.uint8)


def greys_of(pixels: Array) -> Array:
    """Channels, float64 [n, c] -> their grey (ITU-R BT.601), float32 [n]."""
    return tf.cast(tf.reduce_sum(pixels * tf.constant(_luma(pixels.shape[1])), axis=1), tf.float32)


# XLA makes one loop of it, nine times as fast as TensorFlow's matrix product and what follows it.
@tf.function(jit_compile=True, autograph=False)
def linear(images: Images, matrices: Array, offsets: PerImage) -> Images:
    """Every pixel, as a row, times its image's matrix, float32 [n, c, c], plus its offset, float32 [n]."""
    # Sums of pixels times multiples of 1/4096 are exact in float32: however a batch of some size is computed, no rounding
    # can tip. The result is off by a tenth of a level at most.
    exact = tf.round(matrices / _QUANTUM) * _QUANTUM
    pixels = tf.cast(images, tf.float32)
    products = [pixels[..., k, None] * exact[:, None, None, k] for k in range(images.shape[-1])]
    return to_levels(tf.add_n(products) + offsets[:, None, None, None])


def saturation(factors: PerImage, channels: int) -> Array:
    """Matrices towards each pixel's grey (factor 0) or away from it (above 1); factors float32 [n]. Grey stays as it is."""
    grey = tf.constant(_luma(channels), tf.float32)[:, None] * tf.ones([channels])
    factors = factors[:, None, None]
    return factors * tf.eye(channels) + (1 - factors) * grey


def hue(turns: PerImage, channels: int) -> Array:
    """Matrices that turn colours around the grey axis of YIQ by shares of the circle, float32 [n]. Grey stays as it is.

    From red over yellow to green, as in HSV. Being linear, it is free beside the other changes; a turn in HSV is not, and
    keeps the largest channel where this keeps the grey.
    """
    if channels == 1:
        return saturation(tf.ones_like(turns), channels)
    back, quarter = np.linalg.inv(_TO_YIQ), np.array([[0, 1], [-1, 0]])
    grey, chroma = back[:, :1] @ _TO_YIQ[:1], back[:, 1:] @ _TO_YIQ[1:]
    crossed = back[:, 1:] @ quarter @ _TO_YIQ[1:]
    # In float64: TensorFlow's float32 cosine of the same number depends on where in the batch it stands.
    angles = tf.cast(turns, tf.float64)[:, None, None] * (2 * math.pi)
    return tf.cast(grey.T + tf.cos(angles) * chroma.T + tf.sin(angles) * crossed.T, tf.float32)


def jitter(images: Images, positions: PositionRanges, strength: float) -> Images:
    """--augment=color:STRENGTH: brightness, contrast, saturation, hue, in this order, without cutting off in between.

    Factors are uniform in [1 - strength, 1 + strength], the turn of hue in strength / 4 of the circle either way; contrast
    is about the image's mean grey. (Ranges as in torchvision's ColorJitter.)
    """
    return adjusted(images, 1 + (2 * positions.uniforms(4, "color") - 1) * strength)


def adjusted(images: Images, factors: Array) -> Images:
    """Images with brightness, contrast, saturation and hue changed by factors, float32 [n, 4]; 1 leaves each as it is."""
    _, height, width, channels = images.shape
    brightness, contrast, colour, turn = tf.unstack(factors, axis=1)
    columns = tf.reduce_sum(tf.cast(images, tf.int32), axis=1)
    greys = greys_of(tf.reduce_sum(tf.cast(columns, tf.float64), axis=1) / (height * width))
    matrices = saturation(colour, channels) @ hue((turn - 1) / 4, channels)
    # Neither saturation nor hue moves the grey that contrast adds.
    offsets = (1 - contrast) * brightness * greys
    return linear(images, (brightness * contrast)[:, None, None] * matrices, offsets)


def sharpness(images: Images, factors: PerImage) -> Images:
    """Towards the image smoothed by [[1 1 1] [1 5 1] [1 1 1]] / 13, or away from it; the outermost pixels stay.

    As Pillow's ImageEnhance.Sharpness, within a level. factors: float32 [n].
    """
    _, height, width, channels = images.shape
    if min(height, width) < 3:
        return images
    # What the smoothed image lacks, in whole thirteenths, so that its sums are exact.
    kernel = np.full([3, 3, channels, 1], -1, np.float32)
    kernel[1, 1] = 8
    pixels = tf.cast(images, tf.float32)
    # Not VALID: TensorFlow 2.21 gets its shape wrong where there are no images.
    detail = tf.nn.depthwise_conv2d(pixels, kernel, strides=[1, 1, 1, 1], padding="SAME")[:, 1:-1, 1:-1]
    detail = tf.pad(detail, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return to_levels(pixels + detail * ((factors - 1) / 13)[:, None, None, None])


def _luma(channels: int) -> np.ndarray:
    return _TO_YIQ[0] if channels == 3 else np.ones(1)
