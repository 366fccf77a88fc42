"""Geometry: one affine map for each image, applied once; whole pixels are moved without interpolation."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Images, Maps, PerImage, Uniforms
from convoy.data.augment.names import Stage
from convoy.data.augment.recipe import Recipe
from convoy.data.keys import key
from convoy.data.order import PositionRanges
from convoy.data.sampler import Sample

_INTERPOLATED = ("rotate", "shift", "shear", "zoom")
_ANGLE, _SHIFT_X, _SHIFT_Y, _FLIP, _SHEAR, _ZOOM, _TOP, _LEFT = range(8)  # columns of the random numbers


def move(
    images: Images, positions: PositionRanges, sample: Sample, recipe: Recipe, later: Maps | None = None
) -> Images:
    """Images after the recipe's geometry and after the maps `later`, of which nothing is interpolated twice."""
    interpolates = later is not None or any(name in recipe for name in _INTERPOLATED)
    if recipe.names_at(Stage.GEOMETRY):
        numbers = positions.uniforms(8, "augment")
        mirrored = flips(numbers, sample, positions.seed, recipe)
        if "crop" in recipe or not interpolates:
            images = crop_and_flip(images, numbers, mirrored, "crop" in recipe)
            mirrored = tf.zeros_like(mirrored)
        if interpolates:
            own = maps(numbers, mirrored, recipe, images.shape)
            later = own if later is None else compose(own, later)
    return images if later is None else warp(images, later)


def flips(numbers: Uniforms, sample: Sample, seed: int, recipe: Recipe) -> Array:
    """Which images are to be mirrored left-right: bool [n]. numbers: float32 [n, 8] in [0, 1)."""
    if "altflip" in recipe:
        # Half of the examples the first time, each of them every other time (Jordan 2024, section 3.4).
        count = tf.shape(sample.indices)
        seeds = tf.tile(tf.constant([[key(seed, "altflip"), 0, 0]], tf.int64), [count[0], 1])
        bounds = tf.fill(count, tf.constant(2**62, tf.int64))
        first = tf.raw_ops.RandomIndexShuffle(index=sample.indices, seed=seeds, max_index=bounds, rounds=8)
        return (first + sample.times_seen) % 2 == 1
    return numbers[:, _FLIP] < (0.5 if "flip" in recipe else 0.0)


def compose(first: Maps, second: Maps) -> Maps:
    """The map, float32 [n, 2, 3], of an image that is moved by `first` and then by `second`.

    Maps lead from output to input, so the first one is applied last: the 3x3 product first @ second.
    """
    last_row = tf.tile(tf.constant([[[0.0, 0.0, 1.0]]]), [tf.shape(second)[0], 1, 1])
    return first @ tf.concat([second, last_row], axis=1)


def maps(numbers: Uniforms, mirrored: PerImage, recipe: Recipe, shape: tf.TensorShape) -> Maps:
    """The maps that a recipe draws, float32 [n, 2, 3]: x' = a x + b y + c, y' = d x + e y + f.

    They go from a pixel of the output to a place in the input, both measured from the image's centre.
    """
    signed = 2 * numbers - 1
    zero, one = tf.zeros_like(signed[:, 0]), tf.ones_like(signed[:, 0])
    angle = signed[:, _ANGLE] * math.radians(recipe.number("rotate"))
    # In float64: the last bits of TensorFlow's float32 cosine depend on where in the batch a number stands.
    cos, sin = (tf.cast(turn(tf.cast(angle, tf.float64)), tf.float32) for turn in (tf.cos, tf.sin))
    mirror = tf.where(mirrored, -one, one)
    shear = tf.tan(signed[:, _SHEAR] * math.radians(recipe.number("shear"))) if "shear" in recipe else zero
    zoom = 1 / (1 + signed[:, _ZOOM] * recipe.number("zoom")) if "zoom" in recipe else one
    a, b, d, e = cos, shear * cos - sin, sin, shear * sin + cos
    a, b, d, e = (value * zoom for value in (a, b, d, e))
    shift_x = signed[:, _SHIFT_X] * (recipe.number("shift") * shape[2])
    shift_y = signed[:, _SHIFT_Y] * (recipe.number("shift") * shape[1])
    return tf.reshape(tf.stack([mirror * a, b, shift_x, mirror * d, e, shift_y], axis=1), [-1, 2, 3])


# XLA makes one loop of it, which reads every pixel where it needs it: several times as fast as
# TensorFlow's ImageProjectiveTransformV3 (benchmarks/augmentation.py), and nothing is held but input and output.
@tf.function(jit_compile=True, autograph=False)
def warp(images: Images, maps: Maps) -> Images:
    """Images uint8 [n, h, w, c] seen through maps, bilinear, with the nearest edge pixel outside; rounded to nearest."""
    count, height, width, channels = images.shape
    x = tf.range(width, dtype=tf.float32) - (width - 1) / 2
    y = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2
    (a, b, c), (d, e, f) = (tf.unstack(row[:, None, None], axis=3) for row in tf.unstack(maps, axis=1))
    left, right, to_right = _neighbours(a * x + b * y + (c + (width - 1) / 2), width)
    above, below, to_below = _neighbours(d * x + e * y + (f + (height - 1) / 2), height)
    first_row = tf.range(count)[:, None, None] * height
    flat = tf.reshape(images, [-1, channels])

    def between(rows: Array) -> Array:
        start = (first_row + rows) * width
        first, second = (tf.cast(tf.gather(flat, start + columns), tf.float32) for columns in (left, right))
        return first + (second - first) * to_right

    top = between(above)
    return tf.cast(tf.round(top + (between(below) - top) * to_below), tf.uint8)


def _neighbours(places: Array, side: int) -> tuple[Array, Array, Array]:
    """Places along a side, anywhere -> the pixels on either side of each, int32, and how far it is from the first."""
    places = tf.clip_by_value(places, 0.0, side - 1.0)
    first = tf.cast(places, tf.int32)
    return first, tf.minimum(first + 1, side - 1), (places - tf.cast(first, tf.float32))[..., None]


@tf.function(jit_compile=True, autograph=False)
def crop_and_flip(images: Images, numbers: Uniforms, mirrored: PerImage, crop: bool) -> Images:
    """With `crop`, reflect-pads by an eighth of each side and crops back at random; mirrors those that are `mirrored`.

    The usual CIFAR augmentation (He et al. 2016, section 4.2: 4 pixels of 32), reflecting instead of black borders.
    Nothing is padded in memory: reflected rows and columns are looked up, and every pixel is read once.

    Args:
      images: uint8 [n, h, w, c].
      numbers: float32 [n, 8] in [0, 1).
      mirrored: bool [n].
      crop: whether to crop.

    Returns:
      uint8 [n, h, w, c].
    """
    if not crop:
        return tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    count, height, width, channels = images.shape
    rows, columns = (_window(numbers[:, which], side) for which, side in ((_TOP, height), (_LEFT, width)))
    columns = tf.where(mirrored[:, None], columns[:, ::-1], columns)
    first_row = tf.range(count)[:, None] * height
    pixels = (first_row + rows)[:, :, None] * width + columns[:, None, :]
    return tf.gather(tf.reshape(images, [-1, channels]), pixels)


def _window(numbers: Uniforms, side: int) -> Array:
    """Random numbers [n] -> int32 [n, side]: which row of the image each row of the crop shows."""
    pad = min(max(1, round(side / 8)), side - 1)
    reflected = np.pad(np.arange(side, dtype=np.int32), pad, mode="reflect")
    offsets = tf.cast(numbers * (2 * pad + 1), tf.int32)
    return tf.gather(tf.constant(reflected), offsets[:, None] + tf.range(side)[None, :])
