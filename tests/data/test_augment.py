"""Augmentation: each against a slow reference, and the same pixels for any batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data.augment import augmenter
from data.augment.affine import rotate_shift_flip
from data.augment.crop import pad_crop

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (16, 12, 10, 3), dtype=np.uint8)
NUMBERS = RNG.random((16, 4), dtype=np.float32)


def affine_reference(image: np.ndarray, numbers: np.ndarray, degrees: float, shift: float) -> np.ndarray:
    """By scipy, one image at a time: rows first, as SciPy has coordinates."""
    height, width, _ = image.shape
    angle, x, y = (2 * float(n) - 1 for n in numbers[:3])
    angle *= math.radians(degrees)
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    if numbers[3] < 0.5:
        matrix = matrix @ np.diag([1, -1])
    offset = centre + np.array([y * shift * height, x * shift * width]) - matrix @ centre
    channels = [
        ndimage.affine_transform(image[..., c].astype(np.float64), matrix, offset, order=1, mode="nearest")
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def test_rotate_shift_flip_is_what_scipy_does():
    moved = rotate_shift_flip(tf.constant(IMAGES), tf.constant(NUMBERS), 15.0, 0.1).numpy()
    for image, numbers, ours in zip(IMAGES, NUMBERS, moved, strict=True):
        theirs = affine_reference(image, numbers, 15.0, 0.1)
        assert np.abs(ours - theirs).max() <= 0.51  # rounding to a level


def test_no_rotation_and_no_shift_change_nothing():
    still = np.full((16, 4), 0.5, np.float32)
    assert np.array_equal(rotate_shift_flip(tf.constant(IMAGES), tf.constant(still), 15.0, 0.1).numpy(), IMAGES)


def test_crop_is_a_slice_of_the_padded_image():
    for flip in (False, True):
        cropped = pad_crop(tf.constant(IMAGES), tf.constant(NUMBERS), flip).numpy()
        for image, numbers, ours in zip(IMAGES, NUMBERS, cropped, strict=True):
            pads = [round(side / 8) for side in image.shape[:2]]
            padded = np.pad(image, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)], mode="reflect")
            top, left = (int(n * (2 * pad + 1)) for n, pad in zip(numbers, pads, strict=False))
            theirs = padded[top : top + image.shape[0], left : left + image.shape[1]]
            assert np.array_equal(ours, theirs[:, ::-1] if flip and numbers[2] < 0.5 else theirs)


@pytest.mark.parametrize("name", ["crop", "standard", "article"])
def test_a_position_gets_the_same_pixels_in_any_batch(name):
    change = tf.function(augmenter(name, seed=3))
    images = tf.constant(np.repeat(IMAGES[:1], 24, axis=0))
    whole = change(images, [(tf.constant(100, tf.int64), 24)]).numpy()
    for start, count in ((0, 5), (5, 7), (12, 12)):
        part = change(images[:count], [(tf.constant(100 + start, tf.int64), count)]).numpy()
        assert np.array_equal(part, whole[start : start + count])
    assert len({image.tobytes() for image in whole}) > 6
    assert not np.array_equal(
        whole, tf.function(augmenter(name, seed=4))(images, [(tf.constant(100, tf.int64), 24)]).numpy()
    )


def test_flips_come_half_of_the_time():
    numbers = tf.constant(np.random.default_rng(0).random((4000, 4), dtype=np.float32))
    gradient = np.broadcast_to(np.arange(9, dtype=np.uint8)[None, None, :, None] * 20, (4000, 9, 9, 1))
    moved = pad_crop(tf.constant(gradient), numbers, flip=True).numpy()[:, 4, :, 0].astype(int)
    flipped = (moved[:, 2] > moved[:, 6]).mean()
    assert 0.46 < flipped < 0.54


def test_the_smallest_images_can_be_cropped():
    tiny = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    assert pad_crop(tf.constant(tiny), tf.constant(NUMBERS[:2]), flip=True).shape == (2, 2, 2, 1)
    single = np.ones((2, 1, 1, 1), np.uint8)
    assert np.array_equal(pad_crop(tf.constant(single), tf.constant(NUMBERS[:2]), flip=True).numpy(), single)
