"""Image files to pixels: right RGB, upright, only the part that is asked for and no finer than needed.

Right RGB is what Pillow makes of a file (images.probe says how); what TensorFlow does wrong or not at all, Pillow does here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from convoy.data.arrays import Array, Image, Scalar, Window
from convoy.data.images.crop_geometry import resampled, rounded_half_up
from convoy.data.images.decoders import CHANNELS, DCT, choose, decoded
from convoy.data.images.probe import Kind
from convoy.data.images.view import DEEP

OTHER_SIZE = "its size is not that of its header"
_SHRINKS = (1, 2, 4, 8)  # by which a JPEG can be reduced while it is decoded
_BLOCK = 16  # columns that are decoded together, where chroma is halved
_MIN_COLUMNS = 5  # of a part; of fewer, libjpeg repeats chroma


class File(NamedTuple):
    """A file that has been probed. Scalars; what is a number of Python leaves what other files would need out of the graph."""

    contents: Scalar  # string
    kind: Scalar | int  # int32: convoy.data.images.probe.Kind
    orientation: Scalar | int  # int32, 1 to 8
    height: Scalar  # int32, upright
    width: Scalar  # int32, upright
    bit_depth: int = DEEP  # that of convoy.data.images.view.View


def whole(file: File) -> Image:
    """uint8 [h, w, 3], upright."""
    return _turned(_decoded(file), file.orientation)


def part(file: File, window: Window, size: tuple[int, int], smooth: bool, cubic: bool = False) -> Image:
    """A window of the upright image at another size: uint8 [height, width, 3].

    Args:
      file: one that can be read.
      window: float32 [4], (top, left, height, width); whole numbers unless `smooth`.
      size: (height, width) of the result.
      smooth: antialiased even where little is reduced. If not, it is bilinear below a reduction by two, where it passes over
        no pixel and takes a fifth of the time of the other.
      cubic: that of crop_geometry.resampled, where `smooth`.
    """
    stored, target = _stored(window, file), tf.where(file.orientation >= 5, size[::-1], size)
    reduction = tf.reduce_min(stored[2:] / tf.cast(target, tf.float32))
    if smooth:
        # A reduction within the decoder is another filter; where a test is measured at least half is left to ours.
        pixels = _antialiased(file, stored, target, reduction / 2, cubic)
    else:
        # Few images are reduced that much, and the executor visits every operation of a branch that is not taken.
        apart = tf.function(_antialiased, autograph=False, experimental_attributes={"_noinline": True})
        pixels = tf.cond(
            reduction < 2,
            lambda: _bilinear(file, stored, target),
            lambda: apart(file, stored, target, reduction),
        )
    return tf.ensure_shape(_turned(pixels, file.orientation), (*size, CHANNELS))


def fault(read: Callable[[], File]) -> str:
    """Why a file cannot be decoded, to follow its name in a sentence; `read` is called outside of a graph."""
    try:
        whole(read())
    except tf.errors.OpError as error:
        if OTHER_SIZE in error.message:
            return f"cannot be decoded: {OTHER_SIZE}"
        what = error.message.split("[Op:")[0].split("}} ")[-1].strip().rstrip(".")
        return f"cannot be decoded: {what}"
    return "cannot be decoded: it has changed since its header was read"


def _bilinear(file: File, window: Window, size: Array) -> Image:
    corners = tf.cast(window, tf.int32)
    top, left, height, width = tf.unstack(corners)
    pixels = choose(
        file.kind == Kind.JPEG,
        lambda: _decoded_part(file, corners),
        lambda: _decoded(file)[top : top + height, left : left + width],
    )
    resized = tf.raw_ops.ResizeBilinear(images=pixels[None], size=size, half_pixel_centers=True)
    return rounded_half_up(resized[0])


def _antialiased(file: File, window: Window, size: Array, max_reduction: Scalar, cubic: bool = False) -> Image:
    """A JPEG is reduced by up to `max_reduction` while it is decoded."""

    def shrunk(by: int) -> Image:
        # As far around the window as the filter reaches, in pixels of the smaller image.
        pixel = window[2:] / tf.cast(size, tf.float32)
        reach = tf.math.ceil(2 * tf.maximum(pixel, 1.0) if cubic else pixel)
        sides = tf.where(file.orientation >= 5, (file.width, file.height), (file.height, file.width))
        first = tf.maximum(tf.cast(window[:2] - reach, tf.int32) // by, 0)
        end = tf.minimum(-(-tf.cast(tf.math.ceil(window[:2] + window[2:] + reach), tf.int32) // by), -(-sides // by))
        pixels = _decoded_part(file, tf.concat([first, end - first], axis=0), by)
        corner = window[:2] / by - tf.cast(first, tf.float32)
        return resampled(pixels, tf.concat([corner, window[2:] / by], axis=0), size, cubic)

    by = tf.reduce_sum(tf.cast(max_reduction >= _SHRINKS[1:], tf.int32))
    return choose(
        file.kind == Kind.JPEG,
        lambda: tf.switch_case(by, [lambda by=by: shrunk(by) for by in _SHRINKS]),
        lambda: resampled(_decoded(file), window, size, cubic),
    )


def _decoded_part(file: File, window: Window, by: int = 1) -> Image:
    """A window of a JPEG, as stored, reduced `by` 1, 2, 4 or 8; the window, int32, is one of the reduced image.

    The pixels are those of the whole image. Chroma is interpolated within what is decoded: that is a column more where a
    window begins with a block, or ends within a pair that shares chroma, and never so few that chroma would be repeated.
    """
    contents = _if_still(file, tf.io.extract_jpeg_shape(file.contents), file.contents)
    top, left, height, width = tf.unstack(window)
    columns = -(-tf.where(file.orientation >= 5, file.height, file.width) // by)
    right = left + width
    first = tf.where(left % (_BLOCK // by) == 0, tf.maximum(left - 1, 0), left)
    end = tf.minimum(tf.maximum(right + 1 - right % 2, first + _MIN_COLUMNS), columns)
    first = tf.minimum(first, tf.maximum(end - _MIN_COLUMNS, 0))
    wider = tf.stack([top, first, height, end - first])
    pixels = tf.io.decode_and_crop_jpeg(contents, wider, CHANNELS, ratio=by, dct_method=DCT)
    return pixels[:, left - first : right - first]  # not copied where that is all


def _decoded(file: File) -> Image:
    """uint8 [h, w, 3], as stored."""
    pixels = decoded(file.contents, file.kind, file.bit_depth)
    return _if_still(file, tf.shape(pixels), pixels)


def _if_still(file: File, shape: Array, value: Array) -> Array:
    """The value, if this shape of what is stored is what the header said: a file may have been replaced since it was read."""
    sides = tf.where(file.orientation >= 5, (file.width, file.height), (file.height, file.width))
    still = tf.debugging.Assert(tf.reduce_all(shape[:2] == sides), [OTHER_SIZE])
    with tf.control_dependencies(
        [still] if still is not None else []
    ):  # outside of a graph it has been asserted already
        return tf.identity(value)


def _turned(pixels: Array, orientation: Scalar) -> Image:
    """Stored pixels, upright: swapped rows and columns first, then mirrored."""

    def turned() -> Image:
        swapped = choose(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        return tf.raw_ops.Reverse(tensor=swapped, dims=tf.stack([*_mirrored(orientation), False]))

    return choose(orientation == 1, lambda: pixels, turned)


def _stored(window: Window, file: File) -> Window:
    """A window of the upright image as one of what is stored."""
    top, left, height, width = tf.unstack(window)
    down, right = _mirrored(file.orientation)
    top = tf.where(down, tf.cast(file.height, tf.float32) - top - height, top)
    left = tf.where(right, tf.cast(file.width, tf.float32) - left - width, left)
    return tf.where(file.orientation >= 5, (left, top, width, height), (top, left, height, width))


def _mirrored(orientation: Scalar) -> tuple[Array, Array]:
    """Whether (rows, columns) run backwards (EXIF 2.3, section 4.6.4, tag 274)."""
    # Not by ==, to which a number of Python is unequal to any tuple.
    return tf.reduce_any(tf.equal(orientation, (3, 4, 7, 8))), tf.reduce_any(tf.equal(orientation, (2, 3, 6, 7)))
