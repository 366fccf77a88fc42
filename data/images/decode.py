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
from convoy.data.images.plans import SHRINKS, Part, Plan, mirrored, plan, stored_sides
from convoy.data.images.probe import Kind
from convoy.data.images.view import DEEP

OTHER_SIZE = "its size is not that of its header"


class File(NamedTuple):
    """A file that has been probed. Scalars; what is a number of Python leaves what other files would need out of the graph."""

    contents: Scalar  # string
    kind: Scalar | int  # int32: convoy.data.images.probe.Kind
    orientation: Scalar | int  # int32, 1 to 8
    height: Scalar | int  # int32, upright
    width: Scalar | int  # int32, upright
    bit_depth: int = DEEP  # that of convoy.data.images.view.View


def whole(file: File) -> Image:
    """uint8 [h, w, 3], upright."""
    sides = stored_sides(file.orientation, file.height, file.width)
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
    how = plan(file.orientation, file.height, file.width, window, size, smooth, cubic)
    return planned(file, how, size, smooth, cubic)


def planned(file: File, plan: Plan, size: tuple[int, int], smooth: bool, cubic: bool = False) -> Image:
    """What `part` returns, by a plan for the same arguments; the file's height and width are not used."""
    target = _where(file.orientation >= 5, size[::-1], size)

    def antialiased(contents: Scalar, plan: Plan) -> Image:
        return _antialiased(file._replace(contents=contents), plan, target, 0 if smooth else 1, smooth and cubic)

    if smooth:
        pixels = antialiased(file.contents, plan)
    else:
        # Few images are reduced that much, and the executor visits every operation of a branch that is not taken.
        apart = tf.function(antialiased, autograph=False, experimental_attributes={"_noinline": True})
        pixels = tf.cond(plan.reduced, lambda: apart(file.contents, plan), lambda: _bilinear(file, plan, target))
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
    sides, part, _ = plan.split_pixels()

    def of_any() -> Image:
        top, left, height, width = tf.unstack(tf.cast(plan.split_windows()[0], tf.int32))
        return _decoded(file, sides)[top : top + height, left : left + width]

    pixels = choose(file.kind == Kind.JPEG, lambda: _decoded_part(file, sides, part), of_any)
    resized = tf.raw_ops.ResizeBilinear(images=tf.expand_dims(pixels, 0), size=size, half_pixel_centers=True)
    return rounded_half_up(tf.squeeze(resized, 0))


def _antialiased(file: File, plan: Plan, size: Array, smallest: int, cubic: bool) -> Image:
    """A JPEG is reduced while it is decoded, by one of SHRINKS from the place `smallest` on."""
    sides, part, shrink = plan.split_pixels()
    window, within = plan.split_windows()

    def shrunk(by: int) -> Image:
        return resampled(_decoded_part(file, sides, part, by), within, size, cubic)

    return choose(
        file.kind == Kind.JPEG,
        lambda: tf.switch_case(shrink - smallest, [lambda by=by: shrunk(by) for by in SHRINKS[smallest:]]),
        lambda: resampled(_decoded(file, sides), window, size, cubic),
    )


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
        return tf.raw_ops.Reverse(tensor=swapped, dims=tf.stack([*mirrored(orientation), False]))

    return choose(orientation == 1, lambda: pixels, turned)


def _where(condition: Array | bool, yes: tuple[int, int], no: tuple[int, int]) -> Array | tuple[int, int]:
    """Of a condition that is known beforehand nothing is in the graph."""
    return tf.where(condition, yes, no) if tf.is_tensor(condition) else yes if condition else no
