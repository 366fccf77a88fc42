"""RandAugment and TrivialAugment: operations drawn for each image, of those that torchvision has under these names.

Colour is changed here. Geometry is only drawn here, as maps that the augmenter composes with the recipe's own and applies
once: two rotations in a row would blur twice, and cost twice.
"""

from __future__ import annotations

import math

import tensorflow as tf

from convoy.data.arrays import Array, Images, Maps, PerImage, Tables
from convoy.data.augment import color, tables
from convoy.data.augment.geometry import compose
from convoy.data.augment.groups import by_group
from convoy.data.augment.recipe import Recipe
from convoy.data.order import PositionRanges

# The order of an operation in this table is the number that is drawn for it.
OPERATIONS = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
              "sharpness", "posterize", "solarize", "autocontrast", "equalize")  # fmt: skip
_NUMBER = {name: number for number, name in enumerate(OPERATIONS)}


def policy(images: Images, positions: PositionRanges, recipe: Recipe) -> tuple[Images, Maps]:
    """Images uint8 [n, h, w, c] -> (images after the colour operations, maps float32 [n, 2, 3] of the geometric ones).

    RandAugment (Cubuk et al. 2020): N operations, each one of 14, all of magnitude M of 30. TrivialAugment (Müller and
    Hutter 2021, wide): one operation, whose magnitude is uniform in 0 to 30 of wider ranges. Signs are drawn too.
    """
    trivial, magnitude = "trivial" in recipe, recipe.number("randaugment", 1)
    rounds = 1 if trivial else int(recipe.number("randaugment"))
    numbers = positions.uniforms(4 * rounds, "policy")
    maps = tf.tile(tf.eye(2, 3)[None], [tf.shape(images)[0], 1, 1])
    for turn in range(rounds):
        which, size, sign, _ = tf.unstack(numbers[:, 4 * turn : 4 * turn + 4], axis=1)
        operations = tf.cast(which * len(OPERATIONS), tf.int32)
        levels = tf.floor(size * 31) / 30 if trivial else tf.fill(tf.shape(size), magnitude / 30)
        strengths = levels * tf.gather(tf.constant(_max_strengths(images.shape, trivial)), operations)
        signed = tf.where(sign < 0.5, -strengths, strengths)
        images = _recolor(images, operations, strengths, signed)
        maps = compose(maps, _maps(operations, signed))
    return images, maps


def _max_strengths(shape: tf.TensorShape, wide: bool) -> list[float]:
    """Each operation's strength at magnitude 30: pixels, radians, factors from 1, bits and levels taken away."""
    shear, angle, factor, bits = (0.99, 135, 0.99, 6) if wide else (0.3, 30, 0.9, 4)
    right, down = (32, 32) if wide else (150 / 331 * shape[2], 150 / 331 * shape[1])
    turn = math.radians(angle)
    return [0, shear, shear, right, down, turn, factor, factor, factor, factor, bits, 255, 0, 0]


def _maps(operations: PerImage, signed: PerImage) -> Maps:
    """float32 [n, 2, 3]: those of the geometric operations, identity for the others; see convoy.data.augment.geometry.maps."""
    shear_x, shear_y, right, down, angle = (
        tf.where(operations == _NUMBER[name], signed, 0.0) for name in OPERATIONS[1:6]
    )
    # In float64: TensorFlow's float32 cosine of the same number depends on where in the batch it stands.
    angle = tf.cast(angle, tf.float64)
    cos, sin = tf.cast(tf.cos(angle), tf.float32), tf.cast(tf.sin(angle), tf.float32)
    return tf.reshape(tf.stack([cos, shear_x - sin, right, shear_y + sin, cos, down], axis=1), [-1, 2, 3])


def _recolor(images: Images, operations: PerImage, strengths: PerImage, signed: PerImage) -> Images:
    """Images after the colour operations among these: tables, then a matrix, for all; sharpness for those that drew it."""
    factors, channels = 1 + signed, images.shape[-1]

    def counts(rows: Array) -> Array:
        return tables.histograms(tf.gather(images, rows))

    looked_up = by_group(
        _plain_tables(operations, strengths, factors, channels),
        _groups(operations, "contrast", "autocontrast", "equalize"),
        [
            lambda _, rows: tables.contrast(counts(rows), tf.gather(factors, rows)),
            lambda _, rows: tables.autocontrast(counts(rows)),
            lambda _, rows: tables.equalize(counts(rows)),
        ],
    )
    images = tables.look_up(images, looked_up)
    if channels > 1:
        saturated = color.saturation(tf.where(operations == _NUMBER["color"], factors, 1.0), channels)
        images = color.linear(images, saturated, tf.zeros_like(factors))
    return by_group(
        images,
        _groups(operations, "sharpness"),
        [lambda images, rows: color.sharpness(images, tf.gather(factors, rows))],
    )


@tf.function(jit_compile=True, autograph=False)
def _plain_tables(operations: PerImage, strengths: PerImage, factors: PerImage, channels: int) -> Tables:
    """uint8 [n, channels, 256]: of the operations that need not see the image; those of the others change nothing."""
    chosen, whole = tf.cast(tf.range(256), tf.uint8), tf.round(strengths)
    for name, table in (
        ("brightness", tables.brightness(factors)),
        ("posterize", tables.posterize(8 - tf.cast(tf.minimum(whole, 8), tf.int32))),
        ("solarize", tables.solarize(255 - whole)),
    ):
        chosen = tf.where((operations == _NUMBER[name])[:, None, None], table, chosen)
    return tf.tile(chosen, [1, channels, 1])


def _groups(operations: PerImage, *names: str) -> PerImage:
    """int32 [n]: k where the operation is the k-th of these, 0 where it is none of them."""
    return tf.gather(tf.constant([names.index(name) + 1 if name in names else 0 for name in OPERATIONS]), operations)
