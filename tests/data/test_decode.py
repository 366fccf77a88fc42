"""Photographs: every kind of file as Pillow shows it, upright, and windows of it at another size."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from convoy.data.images import crop_geometry, decode, plans
from convoy.data.images.probe import MAX_PIXELS, Kind, probe
from convoy.data.images.view import View
from support import DATA

pytestmark = pytest.mark.slow

# 60 rows and 84 columns, no two alike.
_Y, _X = np.mgrid[0:60, 0:84]
RGB = np.stack([_X * 3, _Y * 4, (_X + _Y) * 1.7], axis=-1).astype(np.uint8)
ALPHA = np.dstack([RGB, (_X * 3).astype(np.uint8)])
WIDE = np.stack([_X * 780, _Y * 1090, (_X + _Y) * 450, _X * 700], axis=-1).astype(np.uint16)
COLOUR = Image.fromarray(RGB)
NEGATIVE = Image.fromarray(255 - RGB)
PALETTE = COLOUR.quantize(16)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel: Pillow writes grey ones only."""
    height, width, channels = pixels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def turned(format: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOUR, format, exif=exif)


def several(format: str, **options: object) -> bytes:
    return encoded(COLOUR, format, save_all=True, append_images=[NEGATIVE], **options)


FILES = {
    "JPEG": encoded(COLOUR, "JPEG", quality=90),
    "JPEG 4:4:4": encoded(COLOUR, "JPEG", subsampling=0),
    "JPEG progressive": encoded(COLOUR, "JPEG", progressive=True),
    "JPEG grey": encoded(COLOUR.convert("L"), "JPEG"),
    "JPEG RGB": encoded(COLOUR, "JPEG", keep_rgb=True),
    "JPEG CMYK": encoded(COLOUR.convert("CMYK"), "JPEG"),
    "PNG": encoded(COLOUR, "PNG"),
    "PNG 1 bit": encoded(COLOUR.convert("1"), "PNG"),
    "PNG grey": encoded(COLOUR.convert("L"), "PNG"),
    "PNG grey, one transparent": encoded(COLOUR.convert("L"), "PNG", transparency=30),
    "PNG grey and alpha": encoded(Image.fromarray(ALPHA).convert("LA"), "PNG"),
    "PNG RGBA": encoded(Image.fromarray(ALPHA), "PNG"),
    "PNG RGB, one transparent": encoded(COLOUR, "PNG", transparency=(3, 4, 5)),
    "PNG palette": encoded(PALETTE, "PNG"),
    "PNG palette of 2 bits": encoded(COLOUR.quantize(4), "PNG", bits=2),
    "PNG palette, one transparent": encoded(PALETTE, "PNG", transparency=3),
    "PNG palette, all half transparent": encoded(PALETTE, "PNG", transparency=bytes(range(0, 160, 10))),
    "PNG 16 bits grey": png(WIDE[..., :1]),
    "PNG 16 bits grey and alpha": png(WIDE[..., :2]),
    "PNG 16 bits RGB": png(WIDE[..., :3]),
    "PNG 16 bits RGBA": png(WIDE),
    "PNG animated": several("PNG"),
    "PNG animated, with another still": several("PNG", default_image=True),
    "GIF": encoded(PALETTE, "GIF"),
    "GIF animated": several("GIF"),
    "BMP 1 bit": encoded(COLOUR.convert("1"), "BMP"),
    "BMP grey": encoded(COLOUR.convert("L"), "BMP"),
    "BMP palette": encoded(PALETTE, "BMP"),
    "BMP 24 bits": encoded(COLOUR, "BMP"),
    "BMP 32 bits": encoded(Image.fromarray(ALPHA), "BMP"),
    "WebP": encoded(COLOUR, "WEBP", quality=80),
    "WebP lossless": encoded(COLOUR, "WEBP", lossless=True),
    "WebP alpha": encoded(Image.fromarray(ALPHA), "WEBP", quality=80),
    "WebP lossless alpha": encoded(Image.fromarray(ALPHA), "WEBP", lossless=True),
    "WebP animated": several("WEBP", lossless=True),
    **{f"JPEG turned {one}": turned("JPEG", one) for one in range(1, 9)},
    **{f"PNG turned {one}": turned("PNG", one) for one in range(1, 9)},
    **{f"WebP turned {one}": turned("WEBP", one) for one in (3, 6)},
}


def reference(contents: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB")


def file(contents: bytes) -> decode.File:
    header = probe(contents)
    assert header.kind != Kind.BAD, header.reason
    sides = (header.height, header.width) if header.orientation < 5 else (header.width, header.height)
    return decode.File(tf.constant(contents), *(tf.constant(int(one)) for one in (*header[:1], header[3], *sides)))


@functools.cache
def part(size: tuple[int, int], smooth: bool):
    def seen(contents, kind, orientation, height, width, window):
        return decode.part(decode.File(contents, kind, orientation, height, width), window, size, smooth)

    return tf.function(seen, autograph=False, reduce_retracing=True)


def seen(contents: bytes, window: object, size: tuple[int, int], smooth: bool) -> np.ndarray:
    return part(size, smooth)(*file(contents)[:5], tf.constant(window, tf.float32)).numpy().astype(int)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_what_pillow_makes_of_it(name):
    expected = np.asarray(reference(FILES[name])).astype(int)
    if name == "PNG 16 bits grey":
        expected = np.repeat(WIDE[..., :1] >> 8, 3, axis=-1)  # Pillow cuts off at 255 what we scale
    ours = decode.whole(file(FILES[name])).numpy()
    assert ours.shape == expected.shape
    # Other versions of libjpeg and libwebp may round the last bit another way; here they agree.
    assert np.abs(ours - expected).max() <= 2


@pytest.mark.parametrize("name", FILES)
def test_a_header_says_the_size_and_which_decoder_is_right(name):
    header, image = probe(FILES[name]), Image.open(io.BytesIO(FILES[name]))
    assert (header.width, header.height) == image.size
    if "turned" in name:
        assert header.orientation == int(name[-1])
    if not name.startswith("WebP"):
        by_pillow = name.startswith(("GIF", "BMP")) or "CMYK" in name
        assert (header.kind == Kind.OTHER) == by_pillow
    assert ("animated" in name and name.startswith("WebP")) <= (header.kind == Kind.OTHER)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_window_of_a_turned_image_is_that_of_the_upright_one(format, orientation):
    contents = FILES[f"{format} turned {orientation}"]
    top, left, height, width = window = (7, 9, 31, 22)
    upright = reference(contents).crop((left, top, left + width, top + height))
    # The same size: nothing is interpolated.
    assert np.abs(seen(contents, window, (31, 22), smooth=False) - np.asarray(upright)).max() <= 2
    # Enlarged: Pillow's bilinear filter, which sees no more than the window either.
    larger = np.asarray(upright.resize((40, 50), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(seen(contents, window, (50, 40), smooth=False) - larger).max() <= 9
    assert np.abs(seen(contents, window, (50, 40), smooth=False) - larger).mean() <= 0.6


@pytest.mark.parametrize("reduction", [1.3, 2.5, 4.5, 9])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_large_jpeg_is_reduced_while_it_is_decoded(reduction, orientation, smooth):
    generator = np.random.default_rng(3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(generator.integers(0, 256, (12, 14, 3), dtype=np.uint8)).resize((700, 600))
    contents = encoded(picture, "JPEG", quality=92, exif=exif)
    window = (37, 51, round(32 * reduction) * 1, round(40 * reduction))
    top, left, height, width = window
    box = (left, top, left + width, top + height)
    expected = reference(contents).resize((40, 32), Image.Resampling.BILINEAR, box=box)
    difference = np.abs(seen(contents, window, (32, 40), smooth) - np.asarray(expected).astype(int))
    # A window that were off by half a pixel of the result would differ by about 3 on average.
    assert difference.mean() <= 1.0
    assert difference.max() <= 16


def test_the_centre_square_is_what_pillow_would_cut_out():
    for height, width in ((60, 84), (84, 60), (60, 60), (61, 97)):
        image = COLOUR.resize((width, height))
        scaled = [-(-side * 24 // min(height, width)) for side in (height, width)]
        top, left = ((side - 24) // 2 for side in scaled)
        small = image.resize(scaled[::-1], Image.Resampling.BILINEAR).crop((left, top, left + 24, top + 24))
        window = crop_geometry.centre_windows(tf.constant([height]), tf.constant([width]), View(24))[0].numpy()
        ours = seen(encoded(image, "PNG"), window, (24, 24), smooth=True)
        assert np.abs(ours - np.asarray(small).astype(int)).max() <= 2  # Pillow rounds between its two passes


def test_random_windows_lie_within_and_follow_their_distribution():
    count, height, width, least = 20_000, 300, 400, 0.08
    numbers = np.random.default_rng(0).random((count, crop_geometry.NUMBERS), dtype=np.float32)
    sides = (np.full(count, height, np.int32), np.full(count, width, np.int32))
    top, left, tall, wide = crop_geometry.random_windows(numbers, *sides, least).numpy().T
    assert all(np.array_equal(one, np.round(one)) for one in (top, left, tall, wide))
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + tall).max(), (left + wide).max()) == (height, width)
    assert 3 / 4 * 0.97 < (wide / tall).min() < (wide / tall).max() < 4 / 3 * 1.03
    # The same by a loop, after torchvision's.
    generator = np.random.default_rng(1)
    theirs = np.array([slow_window(generator, height, width, least) for _ in range(count)])
    for ours, other in zip((top, left, tall, wide), theirs.T, strict=True):
        bins = np.quantile(other, np.linspace(0, 1, 11)[1:-1])
        share = np.bincount(np.digitize(ours, bins), minlength=10) / count
        expected = np.bincount(np.digitize(other, bins), minlength=10) / count
        assert np.abs(share - expected).max() < 0.02  # 5 standard deviations of the difference of two samples


def slow_window(generator: np.random.Generator, height: int, width: int, least: float) -> tuple[int, int, int, int]:
    for _ in range(10):
        area, aspect = height * width * generator.uniform(least, 1), np.exp(generator.uniform(-1, 1) * np.log(4 / 3))
        tall, wide = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            return generator.integers(height - tall + 1), generator.integers(width - wide + 1), tall, wide
    raise AssertionError("some window fits into 3 to 4")


@pytest.mark.parametrize(("height", "width", "window"), [(10, 400, (0, 193, 10, 13)), (400, 10, (193, 0, 13, 10))])
def test_where_no_window_fits_it_is_the_largest_in_the_centre(height, width, window):
    numbers = np.zeros((1, crop_geometry.NUMBERS), np.float32)
    found = crop_geometry.random_windows(numbers, np.array([height]), np.array([width]), 1.0).numpy()[0]
    assert tuple(found) == window


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_an_absurd_size_is_refused_by_its_header(format):
    contents = bytearray(
        encoded(Image.new("RGB", (60, 50)), format, **({"lossless": True} if format == "WEBP" else {}))
    )
    if format == "JPEG":
        at = contents.index(b"\xff\xc0") + 5
        contents[at : at + 4] = struct.pack(">2H", 50_000, 60_000)
    elif format == "PNG":
        contents[16:33] = (header := struct.pack(">2I5B", 60_000, 50_000, 8, 2, 0, 0, 0)) + struct.pack(
            ">I", zlib.crc32(b"IHDR" + header)
        )
    elif format == "GIF":
        contents[6:10] = struct.pack("<2H", 60_000, 50_000)
    elif format == "BMP":
        contents[18:26] = struct.pack("<2I", 60_000, 50_000)
    else:
        contents[21:25] = struct.pack("<I", 16_382 | 16_382 << 14)
    header = probe(bytes(contents))
    assert header.kind == Kind.BAD
    assert header.reason.startswith("cannot be decoded: ")
    assert f"{MAX_PIXELS:,}" in header.reason or "exceeds limit" in header.reason


@pytest.mark.parametrize("contents", [b"", b"no image at all", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"GIF89a"])
def test_a_file_without_an_image_is_bad_with_a_reason(contents):
    header = probe(contents)
    assert header.kind == Kind.BAD
    assert header.reason.startswith("cannot be decoded: ")


def test_real_photographs_are_cut_as_pillow_cuts_them():
    sample = DATA / "imagenet-sample"
    if not sample.is_dir():
        pytest.skip(f"no photographs in {sample} (CONVOY_TEST_DATA)")
    differences = []
    for path in sorted(sample.iterdir())[::25]:
        contents = path.read_bytes()
        image = reference(contents)
        box = (image.width // 5, image.height // 7, image.width * 4 // 5, image.height * 6 // 7)
        window = (box[1], box[0], box[3] - box[1], box[2] - box[0])
        expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, box=box)).astype(int)
        differences.append(np.abs(seen(contents, window, (224, 224), smooth=True) - expected).mean())
        # Not antialiased, below a reduction by two.
        assert np.abs(seen(contents, window, (224, 224), smooth=False) - expected).mean() <= 6
    assert max(differences) <= 1


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_where_exif_says_nothing_xmp_turns_an_image_as_it_does_in_pillow(format):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    contents = encoded(COLOUR, format, xmp=packet)
    assert ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).size == (60, 84)
    assert probe(contents).orientation == 6
    both = encoded(COLOUR, format, xmp=packet, exif=_orientation_three())
    assert probe(both).orientation == 3


def _orientation_three() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


def test_a_pipe_is_bad_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert probe(str(tmp_path / "pipe.jpg")).reason == "cannot be read: it is no regular file"


def test_the_centre_of_an_image_of_absurd_length_is_its_centre():
    """20 million pixels times a size are more than 32 bits hold."""
    window = crop_geometry.centre_windows(tf.constant([2]), tf.constant([20_000_000]), View(224))[0].numpy()
    assert window.tolist() == [0, 9_999_999, 2, 2]


def test_a_window_is_the_same_wherever_in_a_batch_its_numbers_stand():
    """Numbers for which TensorFlow's float32 exponential, off in the last bit, would move the window by a pixel."""
    cases = ((0.35683777928352356, 0.4338639974594116), (0.6544946432113647, 0.3102608919143677))
    for share, aspect in cases:
        numbers = np.full((4, crop_geometry.NUMBERS), 0.5, np.float32)
        numbers[:, :8], numbers[:, 10:18] = 0.99, 0.01  # these tries do not fit
        numbers[:, 8], numbers[:, 18] = share, aspect
        sides = np.full(4, 6000, np.int32)
        together = crop_geometry.random_windows(tf.constant(numbers), sides, sides, 0.08)
        alone = crop_geometry.random_windows(tf.constant(numbers[:1]), sides[:1], sides[:1], 0.08)
        assert np.array_equal(together[:1], alone)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("orientation", [1, 6, None])
def test_a_plan_is_the_same_in_a_batch_and_alone(orientation, smooth):
    """Else the pixels would depend on the batch size. `None` draws one for each image."""
    generator, count = np.random.default_rng(5), 200
    heights, widths = (generator.integers(1, 3000, count).astype(np.int32) for _ in range(2))
    windows = np.floor(generator.random((count, 4)) * np.stack([heights, widths] * 2, axis=1)).astype(np.float32)
    orientations = tf.constant(generator.integers(1, 9, count), tf.int32) if orientation is None else orientation
    how = ((64, 48), smooth)
    together = tf.nest.flatten(plans.plan(orientations, heights, widths, windows, *how))
    for row in range(count):
        own = orientation or orientations[row]
        alone = tf.nest.flatten(plans.plan(own, heights[row], widths[row], windows[row], *how))
        for mine, others in zip(alone, together, strict=True):
            assert np.array_equal(mine, others[row])
