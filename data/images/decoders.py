"""Whole image files to pixels, each kind by the decoder that is right for it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Image, Scalar
from convoy.data.images.formats import opened
from convoy.data.images.probe import Kind
from convoy.data.images.view import DEEP

CHANNELS = 3
DCT = "INTEGER_ACCURATE"  # as in Pillow; the fast one saves 3 to 5 % and is off by 1.2 levels on average, 18 at most
PNG_DEPTH = 24  # where a PNG file says the bits of a sample


def decoded(contents: Scalar, kind: Scalar | int, bit_depth: int = DEEP) -> Image:
    """uint8 [h, w, 3], as stored. A `kind` that is a number of Python leaves the other decoders out of the graph."""
    decoders = {
        Kind.BAD: lambda: _by_pillow(contents),  # which says why
        Kind.JPEG: lambda: tf.io.decode_jpeg(contents, CHANNELS, dct_method=DCT),
        Kind.PNG: lambda: _by_png(contents, bit_depth),
        Kind.WEBP: lambda: _by_webp(contents),
        Kind.OTHER: lambda: _by_pillow(contents),
        Kind.JXL: lambda: _by_jxl(contents),
    }
    return tf.switch_case(kind, decoders) if tf.is_tensor(kind) else decoders[Kind(int(kind))]()


def choose(condition: Array | bool, yes: Callable[[], Array], no: Callable[[], Array]) -> Array:
    """One of two values; of a condition that is known beforehand the other is not in the graph."""
    if tf.is_tensor(condition):
        return tf.cond(condition, yes, no)
    return yes() if condition else no()


def _by_png(contents: Scalar, bit_depth: int) -> Image:
    """Of a deep file the highest eight of the bits that are used; levels beyond these are the highest."""
    if bit_depth == DEEP:
        return tf.io.decode_png(contents, CHANNELS)

    def scaled() -> Image:
        levels = tf.bitwise.right_shift(tf.io.decode_png(contents, CHANNELS, tf.uint16), bit_depth - 8)
        return tf.cast(tf.minimum(levels, 255), tf.uint8)

    is_deep = tf.strings.substr(contents, PNG_DEPTH, 1) == bytes([DEEP])
    return choose(is_deep, scaled, lambda: tf.io.decode_png(contents, CHANNELS))


def _by_webp(contents: Scalar) -> Image:
    if not hasattr(tf.io, "decode_webp"):  # TensorFlow 2.20
        return _by_pillow(contents)
    return tf.io.decode_webp(contents)[0, ..., :CHANNELS]


def _by_jxl(contents: Scalar) -> Image:
    if not hasattr(tf.io, "decode_jxl"):  # TensorFlow 2.20, where no file is of this kind
        return _by_pillow(contents)
    return tf.io.decode_jxl(contents, CHANNELS)


@tf.function(autograph=False)  # outside of a graph a NumPy array would cut off the zeros at the end
def _by_pillow(contents: Scalar) -> Image:
    def decode(contents: bytes) -> np.ndarray:
        with opened(io.BytesIO(contents)) as image:
            if image.mode.startswith("I;16"):  # of JPEG 2000, with all bits used
                grey = (np.asarray(image) >> (DEEP - 8)).astype(np.uint8)
                return np.repeat(grey[..., None], CHANNELS, axis=-1)
            return np.asarray(image.convert("RGB"))

    pixels = tf.numpy_function(decode, [contents], tf.uint8, stateful=False)
    return tf.ensure_shape(pixels, (None, None, CHANNELS))
