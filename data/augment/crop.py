"""Pad, crop at random, flip: moves whole pixels, so one gather does it without interpolation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def pad_crop(images: tf.Tensor, numbers: tf.Tensor, flip: bool) -> tf.Tensor:
    """Reflect-pads by an eighth of each side, crops back at random and, if asked, flips left-right every other time.

    The usual CIFAR augmentation (He et al. 2016, section 4.2: 4 pixels of 32), reflecting instead of black borders.
    Nothing is padded in memory: reflected rows and columns are looked up, and every pixel is gathered once.

    Args:
      images: uint8 [n, h, w, c].
      numbers: float32 [n, 4] in [0, 1); three are used.
      flip: whether to flip.

    Returns:
      uint8 [n, h, w, c].
    """
    count, height, width, channels = images.shape
    rows = _window(numbers[:, 0], height)
    columns = _window(numbers[:, 1], width)
    if flip:
        columns = tf.where((numbers[:, 2] < 0.5)[:, None], columns[:, ::-1], columns)
    first_pixel = tf.range(count, dtype=tf.int32) * (height * width)
    pixels = first_pixel[:, None, None] + rows[:, :, None] * width + columns[:, None, :]
    flat = tf.reshape(images, [count * height * width, channels])
    return tf.reshape(tf.gather(flat, tf.reshape(pixels, [-1])), [count, height, width, channels])


def _window(numbers: tf.Tensor, side: int) -> tf.Tensor:
    """Random numbers [n] -> int32 [n, side]: which row of the image each row of the crop shows."""
    pad = min(max(1, round(side / 8)), side - 1)
    reflected = np.pad(np.arange(side, dtype=np.int32), pad, mode="reflect")
    offsets = tf.cast(numbers * (2 * pad + 1), tf.int32)
    return tf.gather(tf.constant(reflected), offsets[:, None] + tf.range(side)[None, :])
