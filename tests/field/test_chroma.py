"""A part of a JPEG has the pixels of the whole: those of its edges too, where chroma is interpolated from beside them.

TensorFlow's own decode_and_crop_jpeg is off by up to 11 levels there, with every sampling of chroma but 4:4:4.
"""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convoy.data.images import decode
from convoy.data.images.decoders import DCT
from convoy.data.images.plans import jpeg_part
from convoy.data.images.probe import Kind

HEIGHT, WIDTH = 50, 75
SAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")


def encoded(sampling: str, **options: object) -> bytes:
    noise = np.random.default_rng(2).integers(0, 256, (25, 38, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=sampling, **options)
    return file.getvalue()


def assert_parts_are_those_of_the_whole(contents: bytes, by: int, every: int) -> None:
    file = decode.File(tf.constant(contents), int(Kind.JPEG), 1, tf.constant(HEIGHT), tf.constant(WIDTH))
    whole = tf.io.decode_jpeg(contents, 3, ratio=by, dct_method=DCT).numpy()
    sides = tf.constant([HEIGHT, WIDTH])
    part = tf.function(
        lambda window: decode._decoded_part(file, sides, jpeg_part(window, sides, by), by), autograph=False
    )
    height, width = whole.shape[:2]
    columns = [(left, right) for left in range(width) for right in range(left + 1, width + 1)]
    for index, (left, right) in enumerate(columns[::every]):
        top, bottom = index % 3, height - index % 2
        window = tf.constant([top, left, bottom - top, right - left])
        assert np.array_equal(part(window).numpy(), whole[top:bottom, left:right]), (left, right, top, bottom)


@pytest.mark.parametrize(("sampling", "by"), [("4:2:0", 1), ("4:2:2", 1), ("4:2:0", 2)])
def test_a_part_is_that_of_the_whole(sampling, by):
    assert_parts_are_those_of_the_whole(encoded(sampling), by, every=11)


@pytest.mark.thorough
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("by", [1, 2, 4, 8])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_part_is_that_of_the_whole(sampling, by, progressive):
    assert_parts_are_those_of_the_whole(encoded(sampling, progressive=progressive), by, every=1)
