"""Images of files without labels, as an evaluation shows them: what `convoy predict` gives a model."""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Image, Images, Scalar
from convoy.data.images import decode, decoders
from convoy.data.images.crop_geometry import centre_windows
from convoy.data.images.listing import ImageFile
from convoy.data.images.probe import Header, Kind, look
from convoy.data.images.view import View
from convoy.data.parallel import in_parallel

CHANNELS = (1, decoders.CHANNELS)  # that an image of a file can have
_THREADS = 4  # that read headers, for storage that is far away
# ITU-R BT.601 in 16 bits, as Pillow turns colour into grey; grey stays what it is.
_LUMA, _LUMA_BITS = (19595, 38470, 7471), 16


class Shown(NamedTuple):
    """Files, and the images of those that can be read.

    Attributes:
      files: up to n, in order; those that cannot be read have a reason.
      rows: int64 [n], of which file each image is; -1 where there is no image.
      images: uint8 [n, h, w, c], zeros where there is none.
    """

    files: list[ImageFile]
    rows: np.ndarray
    images: Images


class _Chunk(NamedTuple):
    """What the graph is told of n files, all of one batch; Kind.BAD where there is none."""

    paths: list[bytes] | Array
    kinds: list[int] | Array
    orientations: list[int] | Array
    heights: list[int] | Array  # upright
    widths: list[int] | Array


def images_shown(
    files: Iterable[ImageFile], shape: tuple[int, int, int], view: View, batch_size: int
) -> Iterator[Shown]:
    """Reads files, n = `batch_size` at a time, a few batches ahead.

    An image has the pixels that the same file has in a data set's evaluation. For models of grey images it becomes grey.

    Args:
      files: as they are listed; the iterator runs in another thread.
      shape: (height, width, channels) of the images; channels as in CHANNELS.
      view: what is shown of each; of size 0 those that have another shape are bad.
      batch_size: files of a batch.
    """
    reading = _Reading(files, shape, view, batch_size)

    def image(row: Scalar, *facts: Scalar) -> tuple[Scalar, Image]:
        path, kind, orientation, height, width = facts
        file = decode.File(tf.io.read_file(path), kind, orientation, height, width, view.bit_depth)
        if view.size:
            window = centre_windows(height[None], width[None], view)[0]
            pixels = decode.part(file, window, shape[:2], smooth=True, cubic=view.fraction != 1)
        else:
            pixels = decode.whole(file)
        return row, tf.ensure_shape(_with_channels(pixels, shape[2]), shape)

    def batch(*chunk: Array) -> tuple[Array, Array]:
        elements = tf.data.Dataset.from_tensor_slices((tf.range(batch_size, dtype=tf.int64), *chunk))
        elements = elements.filter(lambda row, path, kind, *_: kind != Kind.BAD)
        # Datasets within an element are the one place of a graph where an error can be caught.
        images = elements.map(image).ignore_errors(log_warning=False)
        none = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros(shape, tf.uint8)))
        rows, pixels = images.concatenate(none).batch(batch_size + 1).get_single_element()
        missing = [0, batch_size + 1 - tf.size(rows)]
        rows = tf.pad(rows[:-1], [missing], constant_values=-1)
        pixels = tf.pad(pixels[:-1], [missing, [0, 0], [0, 0], [0, 0]])
        return tf.ensure_shape(rows, [batch_size]), tf.ensure_shape(pixels, [batch_size, *shape])

    types = (tf.string, tf.int32, tf.int32, tf.int32, tf.int32)
    signature = tuple(tf.TensorSpec([batch_size], dtype) for dtype in types)
    chunks = tf.data.Dataset.from_generator(reading.chunks, output_signature=signature)
    stream = in_parallel(chunks, batch, batch_size * 4 * int(np.prod(shape)))
    for rows, images in stream.as_numpy_iterator():
        yield Shown(reading.next(rows), rows, images)
    if reading.failure:
        raise reading.failure


class _Reading:
    """The files that are being read: chunks of them go into a stream, whose batches come back in the same order."""

    def __init__(self, files: Iterable[ImageFile], shape: tuple[int, int, int], view: View, batch_size: int):
        self._files, self._shape, self._view, self._batch_size = iter(files), shape, view, batch_size
        self._pending = deque[tuple[list[ImageFile], list[Header]]]()
        self.failure: BaseException | None = None  # why there are no more chunks, if not for the end of the files

    def chunks(self) -> Iterator[_Chunk]:
        with ThreadPoolExecutor(_THREADS) as threads:
            try:
                while files := list(itertools.islice(self._files, self._batch_size)):
                    headers = list(threads.map(self._header, files))
                    self._pending.append((files, headers))
                    yield self._chunk(files, headers)
            except Exception as error:  # TensorFlow would make a text of it
                self.failure = error

    def next(self, rows: np.ndarray) -> list[ImageFile]:
        """The files of the next batch, of which those in `rows` could be read; the others get a reason."""
        files, headers = self._pending.popleft()
        for row in set(range(len(files))).difference(rows.tolist()):
            reason = files[row].reason or headers[row].reason
            reason = reason or decode.fault(functools.partial(_file, files[row].path, headers[row]))
            files[row] = files[row]._replace(reason=reason)
        return files

    def _header(self, file: ImageFile) -> Header:
        if file.reason:
            return Header(Kind.BAD)
        header = look(file.path).header
        height, width = _upright(header)
        if header.kind == Kind.BAD or self._view.size or (height, width) == self._shape[:2]:
            return header
        return Header(
            Kind.BAD,
            reason=(
                f"is {width}x{height} pixels, and the run's images are {self._shape[1]}x{self._shape[0]} (a run with"
                " --image_size takes any size)"
            ),
        )

    def _chunk(self, files: list[ImageFile], headers: list[Header]) -> _Chunk:
        absent = self._batch_size - len(files)
        headers = headers + [Header(Kind.BAD)] * absent
        heights, widths = zip(*map(_upright, headers), strict=True)
        return _Chunk(
            [os.fsencode(file.path) for file in files] + [b""] * absent,  # a name need not be valid UTF-8
            [int(header.kind) for header in headers],
            [header.orientation for header in headers],
            list(heights),
            list(widths),
        )


def _file(path: str, header: Header) -> decode.File:
    """The file outside of a graph."""
    sides = map(tf.constant, _upright(header))
    return decode.File(tf.io.read_file(os.fsencode(path)), int(header.kind), header.orientation, *sides)


def _upright(header: Header) -> tuple[int, int]:
    """(height, width) once it is turned."""
    return (header.width, header.height) if header.orientation >= 5 else (header.height, header.width)


def _with_channels(pixels: Image, channels: int) -> Image:
    """uint8 [h, w, 3] -> uint8 [h, w, 1 or 3]."""
    if channels == decoders.CHANNELS:
        return pixels
    weighted = tf.reduce_sum(tf.cast(pixels, tf.int32) * _LUMA, axis=-1, keepdims=True)
    return tf.cast(tf.bitwise.right_shift(weighted + (1 << (_LUMA_BITS - 1)), _LUMA_BITS), tf.uint8)
