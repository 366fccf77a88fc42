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


class Part(NamedTuple):
    """A window of a JPEG, reduced or not: what is decoded, and which of that is the window. All int32."""

    decoded: Array  # [4]
    begin: Array  # [3]
    size: Array  # [3]; -1 is all from `begin` on


class Plan(NamedTuple):
    """How a window is to be decoded. From `plan`, which makes those of a batch at once, each array with an axis in front.

    That is for speed: for a single image it takes dozens of operations on one or two numbers.
    """

    sides: Array  # int32 [2]: height and width of what is stored
    window: Window  # float32 [4], of what is stored
    part: Part  # for where it is bilinear, which windows of whole pixels are


def whole(file: File) -> Image:
    """uint8 [h, w, 3], upright."""
    sides = _stored_sides(file.orientation, file.height, file.width)
    return _turned(_decoded(file, sides), file.orientation)


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
    return planned(file, plan(file.orientation, file.height, file.width, window), size, smooth, cubic)


def plan(orientation: Array | int, height: Array, width: Array, window: Array) -> Plan:
    """Plans for one image or a batch: facts of files as in File, and windows as in `part`."""
    sides = _stored_sides(orientation, height, width)
    stored = _stored(window, orientation, height, width)
    return Plan(sides, stored, _part(tf.cast(stored, tf.int32), sides))


def planned(file: File, plan: Plan, size: tuple[int, int], smooth: bool, cubic: bool = False) -> Image:
    """What `part` returns, by a plan; the file's height and width are not used."""
    target = _where(file.orientation >= 5, size[::-1], size)
    reduction = tf.reduce_min(plan.window[2:] / tf.cast(target, tf.float32))
    if smooth:
        # A reduction within the decoder is another filter; where a test is measured at least half is left to ours.
        pixels = _antialiased(file, plan, target, reduction / 2, cubic)
    else:
        # Few images are reduced that much, and the executor visits every operation of a branch that is not taken.
        apart = tf.function(_antialiased, autograph=False, experimental_attributes={"_noinline": True})
        pixels = tf.cond(
            reduction < 2,
            lambda: _bilinear(file, plan, target),
            lambda: apart(file, plan, target, reduction),
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


def _bilinear(file: File, plan: Plan, size: Array) -> Image:
    def of_any() -> Image:
        top, left, height, width = tf.unstack(tf.cast(plan.window, tf.int32))
        return _decoded(file, plan.sides)[top : top + height, left : left + width]

    pixels = choose(file.kind == Kind.JPEG, lambda: _decoded_part(file, plan.sides, plan.part), of_any)
    resized = tf.raw_ops.ResizeBilinear(images=tf.expand_dims(pixels, 0), size=size, half_pixel_centers=True)
    return rounded_half_up(tf.squeeze(resized, 0))


def _antialiased(file: File, plan: Plan, size: Array, max_reduction: Scalar, cubic: bool = False) -> Image:
    """A JPEG is reduced by up to `max_reduction` while it is decoded."""
    window, sides = plan.window, plan.sides

    def shrunk(by: int) -> Image:
        # As far around the window as the filter reaches, in pixels of the smaller image.
        pixel = window[2:] / tf.cast(size, tf.float32)
        reach = tf.math.ceil(2 * tf.maximum(pixel, 1.0) if cubic else pixel)
        first = tf.maximum(tf.cast(window[:2] - reach, tf.int32) // by, 0)
        end = tf.minimum(-(-tf.cast(tf.math.ceil(window[:2] + window[2:] + reach), tf.int32) // by), -(-sides // by))
        pixels = _decoded_part(file, sides, _part(tf.concat([first, end - first], axis=0), sides, by), by)
        corner = window[:2] / by - tf.cast(first, tf.float32)
        return resampled(pixels, tf.concat([corner, window[2:] / by], axis=0), size, cubic)

    by = tf.reduce_sum(tf.cast(max_reduction >= _SHRINKS[1:], tf.int32))
    return choose(
        file.kind == Kind.JPEG,
        lambda: tf.switch_case(by, [lambda by=by: shrunk(by) for by in _SHRINKS]),
        lambda: resampled(_decoded(file, sides), window, size, cubic),
    )


def _part(window: Array, sides: Array, by: int = 1) -> Part:
    """How a window, int32 [4], of a JPEG reduced `by` 1, 2, 4 or 8 is decoded; or those of a batch. `sides` are not reduced.

    The pixels are those of the whole image. Chroma is interpolated within what is decoded: that is a column more where a
    window begins with a block, or ends within a pair that shares chroma, and never so few that chroma would be repeated.
    """
    top, left, height, width = tf.unstack(window, axis=-1)
    columns, right = -(-sides[..., 1] // by), left + width
    first = tf.where(left % (_BLOCK // by) == 0, tf.maximum(left - 1, 0), left)
    end = tf.minimum(tf.maximum(right + 1 - right % 2, first + _MIN_COLUMNS), columns)
    first = tf.minimum(first, tf.maximum(end - _MIN_COLUMNS, 0))
    zero = tf.zeros_like(left)
    begin, size = (zero, left - first, zero), (zero - 1, width, zero - 1)
    return Part(*(tf.stack(numbers, axis=-1) for numbers in ((top, first, height, end - first), begin, size)))


def _decoded_part(file: File, sides: Array, part: Part, by: int = 1) -> Image:
    """A window of a JPEG, as stored, reduced `by` 1, 2, 4 or 8."""
    contents = _if_still(sides, tf.io.extract_jpeg_shape(file.contents), file.contents)
    pixels = tf.io.decode_and_crop_jpeg(contents, part.decoded, CHANNELS, ratio=by, dct_method=DCT)
    return tf.slice(pixels, part.begin, part.size)  # not copied where that is all


def _decoded(file: File, sides: Array) -> Image:
    """uint8 [h, w, 3], as stored."""
    pixels = decoded(file.contents, file.kind, file.bit_depth)
    return _if_still(sides, tf.shape(pixels), pixels)


def _if_still(sides: Array, shape: Array, value: Array) -> Array:
    """The value, if this shape of what is stored is what the header said: a file may have been replaced since it was read."""
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


def _stored(window: Array, orientation: Array | int, height: Array, width: Array) -> Array:
    """Windows of upright images as those of what is stored; height and width are the upright image's."""
    top, left, tall, wide = tf.unstack(window, axis=-1)
    down, right = _mirrored(orientation)
    top = tf.where(down, tf.cast(height, tf.float32) - top - tall, top)
    left = tf.where(right, tf.cast(width, tf.float32) - left - wide, left)
    across = tf.expand_dims(orientation >= 5, -1)
    return tf.where(across, tf.stack((left, top, wide, tall), axis=-1), tf.stack((top, left, tall, wide), axis=-1))


def _stored_sides(orientation: Array | int, height: Array, width: Array) -> Array:
    """Height and width of what is stored, of those of upright images: int32 [..., 2]."""
    across = tf.expand_dims(orientation >= 5, -1)
    return tf.where(across, tf.stack((width, height), axis=-1), tf.stack((height, width), axis=-1))


def _where(condition: Array | bool, yes: tuple[int, int], no: tuple[int, int]) -> Array | tuple[int, int]:
    """Of a condition that is known beforehand nothing is in the graph."""
    return tf.where(condition, yes, no) if tf.is_tensor(condition) else yes if condition else no


def _mirrored(orientation: Array | int) -> tuple[Array, Array]:
    """Whether (rows, columns) run backwards (EXIF 2.3, section 4.6.4, tag 274), of one image or a batch."""
    # Not by ==, to which a number of Python is unequal to any tuple.
    across = tf.expand_dims(orientation, -1)
    return tuple(tf.reduce_any(tf.equal(across, values), axis=-1) for values in ((3, 4, 7, 8), (2, 3, 6, 7)))
