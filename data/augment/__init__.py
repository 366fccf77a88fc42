"""Augmentation of a whole batch at once, by random numbers that depend on the position alone."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from data.augment.affine import rotate_shift_flip
from data.augment.crop import pad_crop
from data.order import uniforms

# Random numbers an image may use; a change gives every augmentation other draws.
_NUMBERS = 4


def augmenter(name: str, seed: int) -> Callable[[tf.Tensor, list[tuple[tf.Tensor, int]]], tf.Tensor]:
    """--augment -> (images uint8 [n, h, w, c], runs) -> images uint8 [n, h, w, c].

    `runs` are the images' positions: (first position, length) of each stretch of consecutive ones. An image is changed by
    random numbers keyed by (seed, its position), whatever else is in the batch.
    """
    if name == "none":
        return lambda images, runs: images

    def augment(images: tf.Tensor, runs: list[tuple[tf.Tensor, int]]) -> tf.Tensor:
        numbers = tf.concat([uniforms(first, length, _NUMBERS, seed, "augment") for first, length in runs], axis=0)
        if name == "article":
            return rotate_shift_flip(images, numbers, degrees=15.0, shift=0.1)
        return pad_crop(images, numbers, flip=name == "standard")

    return augment
