"""Corruptions: every name at every severity, and oracles by hand."""

from __future__ import annotations

import colorsys
import io
import itertools
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from convoy import exits
from convoy.data.corruptions.blur import defocus_blur, zoom_blur
from convoy.data.corruptions.constants import CIFAR_10_C, IMAGENET_C, constants
from convoy.data.corruptions.corrupt import corrupt
from convoy.data.corruptions.filters import trail
from convoy.data.corruptions.fractal import cloud
from convoy.data.corruptions.glass import shuffled
from convoy.data.corruptions.names import CORRUPTIONS, SEVERITIES, CorruptionsSpec

SMALL, GREY, LARGE = (32, 32, 3), (32, 32, 1), (96, 80, 3)
# By the published constants: glass_blur has fewer rounds at some higher severities, elastic_transform stretches less.
NOT_MONOTONIC = ("glass_blur", "elastic_transform")
SHAPES = {"small": SMALL, "grey": GREY, "large": LARGE}


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(3))


def smooth(shape: tuple[int, int, int], count: int = 2) -> np.ndarray:
    """Waves of other lengths in each channel and picture, uint8 [count, h, w, c], 30 to 225."""
    height, width, channels = shape
    rows, columns = np.mgrid[:height, :width, :1][:2] / min(height, width)
    waves = 2 + np.arange(channels) + np.arange(count)[:, None, None, None]
    return (127.5 + 97 * np.sin(3 * waves * rows + 1) * np.cos(2 * waves * columns)).astype(np.uint8)


def whole(images: np.ndarray, name: str, severity: int, seed: int = 0, first: int = 0) -> np.ndarray:
    return corrupt(images, np.arange(first, first + len(images)), name, severity, seed)


def squared_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_result_depends_on_seed_name_severity_index_and_pixels_alone(name, shape):
    images = smooth(shape)
    before = images.copy()
    by_severity = [whole(images, name, severity) for severity in SEVERITIES]
    for severity, corrupted in zip(SEVERITIES, by_severity, strict=True):
        assert corrupted.shape == images.shape
        assert corrupted.dtype == np.uint8
        assert all((a != b).any() for a, b in zip(corrupted, images, strict=True))
        np.testing.assert_array_equal(whole(images[1:], name, severity, first=1), corrupted[1:])
    np.testing.assert_array_equal(corrupt(images[::-1], np.array([1, 0]), name, 5, 0), by_severity[-1][::-1])
    np.testing.assert_array_equal(images, before)
    others = whole(images[:1], name, 5, seed=1), whole(images[:1], name, 5, first=7)
    for other in others:
        assert (other != by_severity[-1][:1]).any() == CORRUPTIONS[name].is_random
    assert len({corrupted.tobytes() for corrupted in by_severity}) == len(SEVERITIES)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_grows(name, shape):
    images = smooth(shape, 4)
    errors = [squared_difference(whole(images, name, severity), images) for severity in SEVERITIES]
    if name in NOT_MONOTONIC:
        assert min(errors) > 50
    else:
        assert all(later >= 0.9 * earlier for earlier, later in itertools.pairwise(errors)), errors
        assert errors[-1] > 1.3 * errors[0]


@pytest.mark.parametrize("table", [IMAGENET_C, CIFAR_10_C], ids=["ImageNet-C", "CIFAR-10-C"])
def test_every_row_opens_a_function_and_has_constants(table):
    assert list(table) == list(CORRUPTIONS)
    for name, row in CORRUPTIONS.items():
        assert row.help
        function = pkgutil.resolve_name(row.target)
        assert function.__name__ == name
        assert len(table[name]) == len(SEVERITIES)
        assert {len(numbers) for numbers in table[name]} == {function.__code__.co_argcount - 2}


def test_the_smaller_side_chooses_the_constants():
    assert constants("jpeg_compression", 1, 64) == (80,)
    assert constants("jpeg_compression", 5, 65) == (7,)
    tall = smooth((96, 64, 3))
    np.testing.assert_array_equal(whole(tall, "pixelate", 1), boxed(tall, 0.95))


@pytest.mark.parametrize(("shape", "sigma"), [(SMALL, 0.1), (LARGE, 0.38)])
def test_gaussian_noise_has_its_deviation(shape, sigma):
    images = np.full((20, *shape), 128, np.uint8)
    noise = whole(images, "gaussian_noise", 5).astype(float) - 128
    if sigma > 0.2:  # cut off at black and white: the middle half of a normal density is within 0.6745 deviations
        assert np.mean(np.abs(noise) < 0.6745 * 255 * sigma) == pytest.approx(0.5, abs=0.01)
    else:
        assert noise.std() == pytest.approx(255 * sigma, rel=0.01)
        assert abs(noise.mean()) < 0.5


def test_shot_noise_has_a_variance_in_proportion_to_the_level():
    for level in (64, 128):
        noise = whole(np.full((20, *SMALL), level, np.uint8), "shot_noise", 5).astype(float) / 255
        assert noise.mean() == pytest.approx(level / 255, rel=0.01)
        assert noise.var() == pytest.approx(level / 255 / 50, rel=0.03)


def test_impulse_noise_has_its_share_of_black_and_white():
    noisy = whole(np.full((10, *LARGE), 77, np.uint8), "impulse_noise", 4)
    levels, counts = np.unique(noisy, return_counts=True)
    assert levels.tolist() == [0, 77, 255]
    np.testing.assert_allclose(counts / counts.sum(), [0.085, 0.83, 0.085], atol=0.003)


def test_contrast_is_its_formula():
    images = smooth(LARGE)
    means = images.mean(axis=(1, 2), keepdims=True)
    assert np.abs(whole(images, "contrast", 2) - (means + 0.3 * (images - means))).max() <= 0.5 + 1e-3


def test_brightness_adds_to_the_value_of_hsv():
    images = np.random.default_rng(0).integers(0, 256, (1, *SMALL), dtype=np.uint8)
    images[0, 0, 0] = 0
    for before, after in zip(images.reshape(-1, 3), whole(images, "brightness", 5).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1))
        assert np.abs(after - np.array(expected) * 255).max() <= 0.5 + 1e-3
    grey = whole(images[..., :1], "brightness", 5)
    assert np.abs(grey - np.minimum(images[..., :1] + 0.3 * 255, 255)).max() <= 0.5 + 1e-3


def boxed(images: np.ndarray, share: float) -> np.ndarray:
    height, width = images.shape[1:3]
    small = int(width * share), int(height * share)
    resized = [Image.fromarray(image).resize(small, Image.BOX).resize((width, height), Image.BOX) for image in images]
    return np.stack([np.asarray(image) for image in resized])


def test_pixelate_is_pillows_box():
    images = smooth(LARGE)
    np.testing.assert_array_equal(whole(images, "pixelate", 3), boxed(images, 0.4))
    grey = smooth(GREY)
    np.testing.assert_array_equal(whole(grey, "pixelate", 5)[..., 0], boxed(grey[..., 0], 0.65))


@pytest.mark.parametrize(("shape", "quality"), [(LARGE, 10), (SMALL, 50), (GREY, 50)])
def test_jpeg_compression_is_pillows(shape, quality):
    images = smooth(shape)
    for image, compressed in zip(images, whole(images, "jpeg_compression", 4), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(compressed.squeeze(), np.asarray(Image.open(file)))


@pytest.mark.parametrize("shape", [(32, 24, 3), (5, 3, 1)])
@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "elastic_transform"])
def test_what_moves_pixels_leaves_a_constant_picture_as_it_is(name, shape):
    for severity in SEVERITIES:
        for table in (IMAGENET_C, CIFAR_10_C):
            pixels = np.full(shape, 0.3, np.float32)
            moved = CORRUPTIONS.load(name)(pixels, generator(), *table[name][severity - 1])
            np.testing.assert_allclose(moved, 0.3, rtol=1e-5)


@pytest.mark.parametrize("numbers", IMAGENET_C["defocus_blur"] + CIFAR_10_C["defocus_blur"])
def test_defocus_blur_spreads_a_point_over_a_disc(numbers):
    radius, sigma = numbers
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    kernel = defocus_blur(point, generator(), radius, sigma)[..., 0]
    rows, columns = np.mgrid[-20:21, -20:21]
    inside = rows**2 + columns**2 <= radius**2
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
    taps = 1 if radius <= 8 else 2
    assert kernel[(np.hypot(rows, columns) > radius + taps * 2**0.5)].max() < 1e-12
    flat = np.hypot(rows, columns) < radius - taps * 2**0.5
    np.testing.assert_allclose(kernel[flat], 1 / inside.sum(), rtol=1e-9)


def test_a_trail_follows_half_a_normal_density_on_its_line():
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    line = trail(point, 5, 2.0, 0)[20, :, 0]  # a pixel shows what lies right of it, so the point's trail goes left
    expected = np.exp(-(np.arange(11) ** 2) / 8)
    np.testing.assert_allclose(line[20:9:-1], expected / expected.sum(), rtol=1e-5)
    up = trail(point, 5, 2.0, 90)[:, 20, 0]
    np.testing.assert_allclose(up, line, rtol=1e-5)


def test_zoom_blur_is_the_mean_of_enlargements():
    picture = smooth(SMALL, 1)[0].astype(np.float32) / 255
    total = 2 * picture
    for factor, middle in ((1.1, 30), (1.2, 27)):  # enlarged by SciPy to 33 and 32 pixels
        start = (32 - middle) // 2
        total += ndimage.zoom(picture[start:, start:][:middle, :middle], (factor, factor, 1), order=1)[:32, :32]
    np.testing.assert_allclose(zoom_blur(picture, generator(), 1.25, 0.1), total / 4, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "reach", "rounds"), [(32, 32, 1, 2), (40, 24, 4, 3), (3, 2, 4, 2)])
def test_glass_blur_takes_colours_as_the_loop_of_its_definition(height, width, reach, rounds):
    sources = shuffled(height, width, generator(), reach, rounds)
    numbers, picture = generator(), np.arange(height * width).reshape(height, width)
    for _ in range(rounds):
        rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
        down, across = numbers.integers(-reach, reach, (2, len(rows), len(columns)))
        for row in rows:
            for column in columns:
                inner = row - reach - 1, column - reach - 1
                picture[row, column] = picture[row + down[inner], column + across[inner]]
    np.testing.assert_array_equal(sources, picture.ravel())


def test_fog_is_a_cloud_that_leaves_the_brightest_level_in_reach():
    field = cloud(96, 80, generator(), 2)
    assert field.shape == (96, 80)
    assert 0 <= field.min() < field.max() <= 1
    square = cloud(64, 64, generator(), 3).astype(float)
    neighbours = squared_difference(square, np.roll(square, 1, 0))
    assert neighbours < 0.02 * squared_difference(square, square.mean())  # and so it is across the border too
    images = smooth(LARGE)
    for severity in SEVERITIES:
        assert whole(images, "fog", severity).max() <= images.max()


def test_snow_whitens_and_adds_flakes_that_are_the_same_upside_down():
    black = np.zeros((1, *LARGE), np.uint8)
    snowed = whole(black, "snow", 1)
    assert snowed.min() in (25, 26)  # 0.2 * 0.5, where nothing fell
    assert snowed.max() > 100
    np.testing.assert_array_equal(snowed, snowed[:, ::-1, ::-1])
    np.testing.assert_array_equal(snowed[..., 0], snowed[..., 2])


def test_an_elastic_transform_is_one_map_where_the_distortion_is_none():
    gradient = np.tile(np.arange(32, dtype=np.float32)[:, None, None] / 62 + 0.25, (1, 32, 1))
    stretched = CORRUPTIONS.load("elastic_transform")(gradient, generator(), 0, 0, 0.08)[4:-4, 4:-4, 0]
    assert np.abs(np.diff(stretched, 2, axis=0)).max() < 1e-5
    assert np.abs(np.diff(stretched, 2, axis=1)).max() < 1e-5
    assert np.abs(stretched - gradient[4:-4, 4:-4, 0]).max() > 0.005


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(exits.CannotRun, match="Images of 4 channels cannot be corrupted"):
        whole(np.zeros((1, 8, 8, 4), np.uint8), "fog", 1)
    with pytest.raises(exits.CannotRun, match="There is no severity 0; use 1 to 5"):
        whole(np.zeros((1, 8, 8, 3), np.uint8), "fog", 0)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pictures_may_be_tiny_and_batches_empty(name):
    assert whole(np.zeros((0, 8, 8, 3), np.uint8), name, 5).shape == (0, 8, 8, 3)
    for shape in ((1, 1, 1), (2, 3, 3), (70, 66, 1)):
        for severity in (1, 5):
            assert whole(smooth(shape, 1), name, severity).shape == (1, *shape)


def test_the_flag_is_parsed():
    assert CorruptionsSpec.parse("all").names == tuple(CORRUPTIONS)
    assert CorruptionsSpec.parse("fog,gaussian_noise").names == ("gaussian_noise", "fog")
    for text, sentence in (
        ("fogg", r"--corruptions=fogg is not possible: `fogg` is no corruption; did you mean fog\?"),
        ("fog,snow,fog", "--corruptions=fog,snow,fog is not possible: give fog once."),
        ("", "`` is no corruption; there are gaussian_noise, .*, jpeg_compression."),
        ("fog,", "`` is no corruption"),
        ("all,fog", "`all` is no corruption"),
    ):
        with pytest.raises(exits.CannotRun, match=sentence):
            CorruptionsSpec.parse(text)


def test_the_names_start_nothing_heavy():
    program = (
        "import sys; from convoy.data.corruptions.names import CorruptionsSpec; CorruptionsSpec.parse('all');"
        "print({'tensorflow', 'numpy', 'scipy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
