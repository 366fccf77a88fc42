"""Geometry: one affine map for each image, applied once; whole pixels are moved without interpolation."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from data.augment.recipe import Recipe
from data.balance import Drawn
from data.keys import key

_ANGLE, _SHIFT_X, _SHIFT_Y, _FLIP, _SHEAR, _ZOOM, _TOP, _LEFT = range(8)  # columns of the random numbers


def flips(numbers: tf.Tensor, drawn: Drawn, seed: int, recipe: Recipe) -> tf.Tensor:
    """bool [n]: which images are to be mirrored left-right. numbers: float32 [n, 8] in [0, 1)."""
    if recipe.altflip:
        # Half of the examples the first time, each of them every other time (Jordan 2024, section 3.4).
        count = tf.shape(drawn.indices)
        seeds = tf.tile(tf.constant([[key(seed, "altflip"), 0, 0]], tf.int64), [count[0], 1])
        bounds = tf.fill(count, tf.constant(2**62, tf.int64))
        first = tf.raw_ops.RandomIndexShuffle(index=drawn.indices, seed=seeds, max_index=bounds, rounds=8)
        return (first + drawn.shown) % 2 == 1
    return numbers[:, _FLIP] < (0.5 if recipe.flip else 0.0)


def maps(numbers: tf.Tensor, mirrored: tf.Tensor, recipe: Recipe, shape: tf.TensorShape) -> tf.Tensor:
    """The maps that a recipe draws, float32 [n, 2, 3]: x' = a x + b y + c, y' = d x + e y + f.

    They go from a pixel of the output to a place in the input, both measured from the image's centre.
    """
    signed = 2 * numbers - 1
    zero, one = tf.zeros_like(signed[:, 0]), tf.ones_like(signed[:, 0])
    angle = signed[:, _ANGLE] * math.radians(recipe.rotate)
    cos, sin, mirror = tf.cos(angle), tf.sin(angle), tf.where(mirrored, -one, one)
    shear = tf.tan(signed[:, _SHEAR] * math.radians(recipe.shear)) if recipe.shear else zero
    zoom = 1 / (1 + signed[:, _ZOOM] * recipe.zoom) if recipe.zoom else one
    a, b, d, e = cos, shear * cos - sin, sin, shear * sin + cos
    a, b, d, e = (value * zoom for value in (a, b, d, e))
    shift_x = signed[:, _SHIFT_X] * (recipe.shift * shape[2])
    shift_y = signed[:, _SHIFT_Y] * (recipe.shift * shape[1])
    return tf.reshape(tf.stack([mirror * a, b, shift_x, mirror * d, e, shift_y], axis=1), [-1, 2, 3])


def warp(images: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Images uint8 [n, h, w, c] seen through maps, bilinear, with the nearest edge pixel outside; rounded to nearest."""
    height, width = images.shape[1], images.shape[2]
    x, y = (width - 1) / 2, (height - 1) / 2
    (a, b, c), (d, e, f) = (tf.unstack(row, axis=1) for row in tf.unstack(maps, axis=1))
    zero = tf.zeros_like(a)
    transforms = tf.stack([a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y, zero, zero], axis=1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    # The op itself cuts off, which would darken every image by half a level.
    return tf.cast(tf.round(moved), tf.uint8)


def crop_and_flip(images: tf.Tensor, numbers: tf.Tensor, mirrored: tf.Tensor, crop: float) -> tf.Tensor:
    """With `crop`, reflect-pads by an eighth of each side and crops back at random; mirrors those that are `mirrored`.

    The usual CIFAR augmentation (He et al. 2016, section 4.2: 4 pixels of 32), reflecting instead of black borders.
    Nothing is padded in memory: reflected rows and columns are looked up, and every pixel is gathered once.
    """
    _, height, width, channels = images.shape
    count = tf.shape(images)[0]
    rows, columns = (
        _window(numbers[:, which], side) if crop else tf.tile(tf.range(side)[None], [count, 1])
        for which, side in ((_TOP, height), (_LEFT, width))
    )
    columns = tf.where(mirrored[:, None], columns[:, ::-1], columns)
    first_pixel = tf.range(count) * (height * width)
    pixels = first_pixel[:, None, None] + rows[:, :, None] * width + columns[:, None, :]
    flat = tf.reshape(images, [-1, channels])
    return tf.reshape(tf.gather(flat, tf.reshape(pixels, [-1])), [-1, height, width, channels])


def _window(numbers: tf.Tensor, side: int) -> tf.Tensor:
    """Random numbers [n] -> int32 [n, side]: which row of the image each row of the crop shows."""
    pad = min(max(1, round(side / 8)), side - 1)
    reflected = np.pad(np.arange(side, dtype=np.int32), pad, mode="reflect")
    offsets = tf.cast(numbers * (2 * pad + 1), tf.int32)
    return tf.gather(tf.constant(reflected), offsets[:, None] + tf.range(side)[None, :])
