"""Geometry: each against a slow reference, and the same pixels for any batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from convoy import exits
from convoy.data.augment.geometry import crop_and_flip, flips, maps, warp
from convoy.data.augment.recipe import Recipe
from convoy.data.config import DataConfig
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.sampler import Sample, Sampler
from convoy.data.sources.opening import open_dataset
from convoy.data.specs import BalanceSpec

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (16, 12, 10, 3), dtype=np.uint8)
NUMBERS = RNG.random((16, 8), dtype=np.float32)
STILL = np.full((16, 8), 0.5, np.float32)
NEVER = np.zeros(16, bool)


def through_scipy(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """One image, in double precision; rows first, as SciPy has coordinates."""
    centre = (np.array(image.shape[:2]) - 1) / 2
    swapped = matrix[::-1, ::-1]
    offset = centre + shift[::-1] - swapped @ centre
    channels = [
        ndimage.affine_transform(image[..., c].astype(np.float64), swapped, offset, order=1, mode="nearest")
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize("shape", [(12, 10, 3), (5, 17, 1), (1, 1, 3), (2, 9, 1)])
def test_a_warp_is_what_scipy_does(shape):
    images = RNG.integers(0, 256, (40, *shape), dtype=np.uint8)
    affine = RNG.normal(size=(40, 2, 3)).astype(np.float32) * [1, 1, 4]  # far outside, too
    ours = warp(tf.constant(images), tf.constant(affine, tf.float32)).numpy()
    for image, map_, own in zip(images, affine.astype(np.float64), ours, strict=True):
        assert np.abs(own - through_scipy(image, map_[:, :2], map_[:, 2])).max() <= 0.51  # rounding to a level


def test_a_warp_gives_the_same_bits_in_any_batch():
    images = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    affine = tf.constant(RNG.normal(size=(60, 2, 3)), tf.float32)
    whole = warp(tf.constant(images), affine).numpy()
    for count in (1, 3, 20):
        parts = [warp(tf.constant(images[i : i + count]), affine[i : i + count]) for i in range(0, 60, count)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_the_maps_of_the_article_rotate_shift_and_flip():
    recipe = Recipe.parse("article")
    mirrored = NUMBERS[:, 3] < 0.5
    for row, map_ in zip(NUMBERS, maps(NUMBERS, mirrored, recipe, tf.TensorShape(IMAGES.shape)).numpy(), strict=True):
        angle = math.radians(15) * (2 * row[0] - 1)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        mirror = np.diag([-1 if row[3] < 0.5 else 1, 1])
        assert map_[:, :2] == pytest.approx(turn @ mirror, abs=1e-6)  # the mirror acts on what comes out
        assert map_[:, 2] == pytest.approx([(2 * row[1] - 1) * 1.0, (2 * row[2] - 1) * 1.2], abs=1e-5)


def test_maps_are_the_same_bits_in_any_batch():
    """TensorFlow's float32 cosine is not."""
    numbers, mirrored = RNG.random((1024, 8), dtype=np.float32), np.zeros(1024, bool)
    recipe, shape = Recipe.parse("rotate:180+shear:40+zoom:0.5+shift"), tf.TensorShape((None, 32, 32, 3))
    whole = maps(numbers, mirrored, recipe, shape).numpy()
    alone = [maps(numbers[i : i + 1], mirrored[i : i + 1], recipe, shape).numpy() for i in range(0, 1024, 3)]
    assert np.array_equal(np.concatenate(alone), whole[::3])


def test_the_maps_of_shear_and_zoom():
    shape = tf.TensorShape(IMAGES.shape)
    sheared = maps(NUMBERS, NEVER, Recipe.parse("shear:20"), shape).numpy()
    angles = np.radians(20) * (2 * NUMBERS[:, 4].astype(np.float64) - 1)
    assert sheared[:, 0, 1] == pytest.approx(np.tan(angles), abs=1e-6)
    assert sheared[:, :, 2] == pytest.approx(np.zeros((16, 2)))
    zoomed = maps(NUMBERS, NEVER, Recipe.parse("zoom:0.2"), shape).numpy()
    factors = 1 + 0.2 * (2 * NUMBERS[:, 5].astype(np.float64) - 1)  # 1.2 shows a part of the image, larger
    assert zoomed[:, 0, 0] == pytest.approx(1 / factors, rel=1e-5)
    assert zoomed[:, 1, 1] == pytest.approx(1 / factors, rel=1e-5)


def test_all_geometry_is_one_map():
    """Rotated, then zoomed, then sheared, then mirrored by scipy, one after the other, but for interpolation."""
    recipe = Recipe.parse("rotate:30+shear:20+zoom:0.3")
    together = maps(NUMBERS, NUMBERS[:, 3] < 0.5, recipe, tf.TensorShape(IMAGES.shape)).numpy()[:, :, :2]
    for row, found in zip(NUMBERS.astype(np.float64), together, strict=True):
        angle, shear = math.radians(30) * (2 * row[0] - 1), math.tan(math.radians(20) * (2 * row[4] - 1))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        product = turn @ np.array([[1, shear], [0, 1]]) / (1 + 0.3 * (2 * row[5] - 1))
        assert found == pytest.approx(product @ np.diag([-1 if row[3] < 0.5 else 1, 1]), abs=1e-6)


def test_nothing_drawn_changes_nothing():
    recipe = Recipe.parse("rotate:15+shift:0.1+shear:20+zoom:0.3")
    still = maps(STILL, NEVER, recipe, tf.TensorShape(IMAGES.shape))
    assert np.array_equal(warp(tf.constant(IMAGES), still).numpy(), IMAGES)
    assert np.array_equal(crop_and_flip(tf.constant(IMAGES), STILL, NEVER, False).numpy(), IMAGES)


def test_crop_is_a_slice_of_the_padded_image():
    mirrored = NUMBERS[:, 3] < 0.5
    cropped = crop_and_flip(tf.constant(IMAGES), NUMBERS, mirrored, True).numpy()
    for image, row, flip, ours in zip(IMAGES, NUMBERS, mirrored, cropped, strict=True):
        pads = [round(side / 8) for side in image.shape[:2]]
        padded = np.pad(image, [(pads[0],) * 2, (pads[1],) * 2, (0, 0)], mode="reflect")
        top, left = (int(n * (2 * pad + 1)) for n, pad in zip(row[6:8], pads, strict=True))
        theirs = padded[top : top + image.shape[0], left : left + image.shape[1]]
        assert np.array_equal(ours, theirs[:, ::-1] if flip else theirs)


def test_the_smallest_images_can_be_cropped():
    tiny = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    assert crop_and_flip(tf.constant(tiny), NUMBERS[:2], NEVER[:2], True).shape == (2, 2, 2, 1)
    single = np.ones((2, 1, 1, 1), np.uint8)
    assert np.array_equal(crop_and_flip(tf.constant(single), NUMBERS[:2], NEVER[:2], True).numpy(), single)


def test_flips_come_half_of_the_time():
    numbers = np.random.default_rng(0).random((4000, 8), dtype=np.float32)
    drawn = Sample(tf.zeros(4000, tf.int64), tf.zeros(4000, tf.int64))
    assert 0.46 < tf.reduce_mean(tf.cast(flips(numbers, drawn, 0, Recipe.parse("flip")), tf.float32)) < 0.54
    assert not np.any(flips(numbers, drawn, 0, Recipe.parse("crop")))


def test_an_alternating_flip_shows_both_sides_in_turn():
    order = Sampler(np.zeros(500, np.int32), BalanceSpec(), 3)
    epochs = []
    for epoch in range(4):
        drawn = order.sample(tf.range(500 * epoch, 500 * (epoch + 1), dtype=tf.int64))
        mirrored = flips(NUMBERS[:1].repeat(500, 0), drawn, 3, Recipe.parse("altflip")).numpy()
        epochs.append(mirrored[np.argsort(drawn.indices.numpy())])
    assert 0.4 < epochs[0].mean() < 0.6
    assert np.array_equal(epochs[1], ~epochs[0])
    assert np.array_equal(epochs[2], epochs[0])
    assert np.array_equal(epochs[3], epochs[1])


@pytest.mark.parametrize("recipe", ["color", "randaugment", "trivial"])
def test_colour_of_other_channels_than_a_picture_has_is_refused(recipe):
    config = DataConfig("synthetic:6x5x2:3:40", augment=recipe)
    with pytest.raises(exits.CannotRun, match="images of 1 or 3 channels, and these have 2"):
        training_stream(open_dataset(config).split("train"), BatchSharding(4), config, 0, 0)
