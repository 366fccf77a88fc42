"""Augmentation of a whole batch at once, by random numbers that depend on the position alone."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from data.augment.affine import rotate_shift_flip
from data.augment.crop import pad_crop
from data.order import uniforms

# Random numbers an image may use; a change gives every augmentation other draws.
_NUMBERS = 4


def augmenter(name: str, seed: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """--augment -> (images uint8 [n, h, w, c], first position) -> images uint8 [n, h, w, c].

    Image i is changed by random numbers keyed by (seed, first position + i), whatever n is.
    """
    if name == "none":
        return lambda images, first_position: images

    def augment(images: tf.Tensor, first_position: tf.Tensor) -> tf.Tensor:
        numbers = uniforms(first_position, images.shape[0], _NUMBERS, seed, "augment")
        if name == "article":
            return rotate_shift_flip(images, numbers, degrees=15.0, shift=0.1)
        return pad_crop(images, numbers, flip=name == "standard")

    return augment
