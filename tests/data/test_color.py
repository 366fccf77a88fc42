"""Colour: every operation against Pillow's, or NumPy's where Pillow has none, on noise, flat and real images."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from convoy.data.augment import color, tables
from support import DATA

RNG = np.random.default_rng(5)
FACTORS = np.array([0.0, 0.1, 0.55, 1.0, 1.3, 1.9], np.float32)


def some_images(kind: str) -> np.ndarray:
    """Six images, uint8 [6, h, w, 3]."""
    if kind == "noise":
        return RNG.integers(0, 256, (6, 33, 29, 3), dtype=np.uint8)
    if kind == "few levels":
        return RNG.integers(100, 103, (6, 16, 16, 3), dtype=np.uint8) * np.uint8([1, 2, 0])
    if kind == "ramps":
        ramp = np.arange(6 * 20 * 24 * 3).reshape(6, 20, 24, 3)
        return (ramp // np.array([3, 40, 200]) % 256).astype(np.uint8)
    paths = sorted((DATA / "imagenet-sample").glob("*.JPEG"))[::40][:6]
    if len(paths) < 6:
        pytest.skip(f"no photographs in {DATA}/imagenet-sample")
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((96, 80))) for path in paths])


@pytest.fixture(params=["noise", "few levels", "ramps", "photographs"])
def images(request: pytest.FixtureRequest) -> np.ndarray:
    return some_images(request.param)


def assert_close(ours: tf.Tensor, theirs: list, tolerance: int) -> None:
    difference = ours.numpy().astype(int) - np.stack([np.asarray(image) for image in theirs]).astype(int)
    assert np.abs(difference).max() <= tolerance


def looked_up(images: np.ndarray, table: tf.Tensor) -> tf.Tensor:
    n, _, _, channels = images.shape
    return tables.look_up(tf.constant(images), tf.broadcast_to(table, [n, channels, 256]))


def pillow(images: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(image) for image in images]


def enhanced(enhance: type, images: np.ndarray) -> list[Image.Image]:
    return [enhance(image).enhance(float(f)) for image, f in zip(pillow(images), FACTORS, strict=True)]


# Pillow cuts off what we round, and rounds on the way what we do not: one level.


def test_brightness(images):
    assert_close(looked_up(images, tables.brightness(FACTORS)), enhanced(ImageEnhance.Brightness, images), 1)


def test_contrast(images):
    table = tables.contrast(tables.histograms(images), FACTORS)
    assert_close(looked_up(images, table), enhanced(ImageEnhance.Contrast, images), 1)


def test_saturation(images):
    ours = color.linear(images, color.saturation(tf.constant(FACTORS), 3), tf.zeros(6))
    assert_close(ours, enhanced(ImageEnhance.Color, images), 1)


def test_sharpness(images):
    assert_close(color.sharpness(tf.constant(images), FACTORS), enhanced(ImageEnhance.Sharpness, images), 1)


def test_autocontrast(images):
    table = tables.autocontrast(tables.histograms(images))
    assert_close(looked_up(images, table), [ImageOps.autocontrast(image) for image in pillow(images)], 1)


def test_equalize(images):
    table = tables.equalize(tables.histograms(images))
    assert_close(looked_up(images, table), [ImageOps.equalize(image) for image in pillow(images)], 0)


def test_posterize(images):
    bits = np.array([1, 2, 3, 4, 7, 8], np.int32)
    theirs = [ImageOps.posterize(image, int(b)) for image, b in zip(pillow(images), bits, strict=True)]
    assert_close(looked_up(images, tables.posterize(bits)), theirs, 0)


def test_solarize(images):
    thresholds = np.array([0, 1, 99.5, 128, 255, 256], np.float32)
    theirs = [ImageOps.solarize(image, float(t)) for image, t in zip(pillow(images), thresholds, strict=True)]
    assert_close(looked_up(images, tables.solarize(thresholds)), theirs, 0)


def test_histograms_count_every_pixel(images):
    counted = tables.histograms(tf.constant(images)).numpy()
    theirs = [np.reshape(image.histogram(), (3, 256)) for image in pillow(images)]
    assert np.array_equal(counted, theirs)


def test_hue_is_a_turn_around_the_grey_axis_of_yiq(images):
    turns = np.array([-0.5, -0.25, -0.1, 0.0, 0.1, 0.25])
    pixels = images / 255
    y = pixels @ [0.299, 0.587, 0.114]
    # Chroma by the definition of NTSC, from differences to luma, which the code does not use.
    red, blue = pixels[..., 0] - y, pixels[..., 2] - y
    i, q = 0.736 * red - 0.268 * blue, 0.478 * red + 0.413 * blue
    turned = (i + 1j * q) * np.exp(-2j * np.pi * turns)[:, None, None]
    back = np.linalg.inv([[0.736, -0.268], [0.478, 0.413]])
    red, blue = (row[0] * turned.real + row[1] * turned.imag for row in back)
    green = -(0.299 * red + 0.114 * blue) / 0.587
    theirs = np.clip(255 * (y[..., None] + np.stack([red, green, blue], axis=-1)), 0, 255)
    ours = color.linear(images, color.hue(tf.constant(turns, tf.float32), 3), tf.zeros(6)).numpy()
    assert np.abs(ours - theirs).max() <= 1.5  # constants of three digits on either side


def test_hue_turns_colours_the_way_that_hsv_does():
    soft = np.array([[[[200, 120, 120]]]], np.uint8)  # a red
    for turn in (-0.25, -0.1, 0.1, 0.25):
        ours = color.linear(soft, color.hue(tf.constant([turn], tf.float32), 3), tf.zeros(1)).numpy()[0, 0, 0]
        off = colorsys.rgb_to_hsv(*(ours / 255))[0] - turn
        assert abs((off + 0.5) % 1 - 0.5) < 0.08


def test_jitter_is_the_four_changes_in_order():
    images, numbers = some_images("noise"), RNG.random((6, 4)).astype(np.float32)
    light, spread, colour, turn = (1 + 0.4 * (2 * numbers.astype(np.float64) - 1)).T[..., None, None, None]
    luma = np.array([0.299, 0.587, 0.114])
    pixels = images * light
    mean = (pixels @ luma).mean(axis=(1, 2))[:, None, None, None]
    pixels = mean + spread * (pixels - mean)
    grey = (pixels @ luma)[..., None]
    pixels = grey + colour * (pixels - grey)
    turned = pixels @ color.hue(tf.constant((turn.ravel() - 1) / 4, tf.float32), 3).numpy()[:, None]
    ours = color.adjusted(tf.constant(images), tf.constant(1 + (2 * numbers - 1) * np.float32(0.4))).numpy()
    assert np.abs(ours - np.clip(turned, 0, 255)).max() <= 0.7  # half a level of rounding, and the matrix's
    assert ours.min() == 0 or ours.max() == 255


def test_grey_images_keep_their_colour():
    grey = some_images("noise")[..., :1]
    for matrices in (color.saturation(tf.constant(FACTORS), 1), color.hue(tf.constant(FACTORS), 1)):
        assert np.array_equal(color.linear(grey, matrices, tf.zeros(6)), grey)
    as_colour = np.repeat(grey, 3, axis=-1)
    for matrices in (color.saturation(tf.constant(FACTORS), 3), color.hue(tf.constant(FACTORS), 3)):
        assert np.array_equal(color.linear(as_colour, matrices, tf.zeros(6)), as_colour)
    theirs = [ImageEnhance.Sharpness(Image.fromarray(image[..., 0])).enhance(1.9) for image in grey]
    assert_close(color.sharpness(tf.constant(grey), tf.fill([6], 1.9))[..., 0], theirs, 1)
    theirs = [ImageOps.equalize(Image.fromarray(image[..., 0])) for image in grey]
    assert_close(looked_up(grey, tables.equalize(tables.histograms(grey)))[..., 0], theirs, 0)


def test_white_stays_white_and_black_black():
    for level, factor in ((255, 1.9), (0, 0.1)):
        flat = np.full((1, 4, 4, 3), level, np.uint8)
        factors = tf.constant([factor], tf.float32)
        assert np.array_equal(looked_up(flat, tables.brightness(factors)), flat)
        assert np.array_equal(looked_up(flat, tables.contrast(tables.histograms(flat), factors)), flat)
        assert np.array_equal(color.linear(flat, color.saturation(factors, 3), tf.zeros(1)), flat)
    assert (color.linear(flat + 200, tf.eye(3)[None], tf.constant([100.0])).numpy() == 255).all()
    assert (color.linear(flat + 200, tf.eye(3)[None], tf.constant([-300.0])).numpy() == 0).all()
    edge = np.zeros((1, 5, 5, 1), np.uint8)
    edge[:, :, 2:] = 255
    sharper = color.sharpness(tf.constant(edge), tf.constant([2.0])).numpy()
    assert np.array_equal(sharper, edge)  # beyond black and white there is nothing


def test_images_too_small_to_be_filtered_stay():
    tiny = RNG.integers(0, 256, (3, 2, 5, 3), dtype=np.uint8)
    assert np.array_equal(color.sharpness(tf.constant(tiny), tf.fill([3], 1.9)), tiny)
