"""Rotate, shift and flip as one projective transformation a batch."""

from __future__ import annotations

import math

import tensorflow as tf


def rotate_shift_flip(images: tf.Tensor, numbers: tf.Tensor, degrees: float, shift: float) -> tf.Tensor:
    """Rotates by up to +-degrees about the centre, shifts by up to +-shift of each side, flips left-right every other time.

    What Keras' ImageDataGenerator does with rotation_range, width_shift_range, height_shift_range and horizontal_flip,
    bilinear and with the nearest edge pixel outside, but for a whole batch with one matrix per image.

    Args:
      images: uint8 [n, h, w, c].
      numbers: float32 [n, 4] in [0, 1).
      degrees: the largest rotation.
      shift: the largest shift, as a fraction of the side.

    Returns:
      uint8 [n, h, w, c], rounded to nearest: the op itself cuts off, which would darken every image by half a level.
    """
    height, width = images.shape[1], images.shape[2]
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    signed = 2 * numbers - 1
    angle = signed[:, 0] * math.radians(degrees)
    shift_x, shift_y = signed[:, 1] * (shift * width), signed[:, 2] * (shift * height)
    mirror = tf.where(numbers[:, 3] < 0.5, -1.0, 1.0)
    cos, sin, zero = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle)
    # Output pixel (x, y) is read from a (x - cx) + b (y - cy) + c + shift; the mirror acts on x first.
    a, b, d, e = mirror * cos, -sin, mirror * sin, cos
    transforms = tf.stack(
        [
            a, b, centre_x + shift_x - a * centre_x - b * centre_y,
            d, e, centre_y + shift_y - d * centre_x - e * centre_y,
            zero, zero,
        ],
        axis=1,
    )  # fmt: skip
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return tf.cast(tf.round(moved), tf.uint8)
