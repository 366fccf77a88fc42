"""An image of any size to a square of the asked size: the shorter side brought to it, antialiased, and the centre taken."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Image
from convoy.data.images.crop_geometry import centre_windows, resampled
from convoy.data.parallel import in_parallel
from convoy.data.sources.in_memory import InMemory


def resize_and_crop(image: Image, size: int, fraction: float = 1.0) -> Image:
    """uint8 [h, w, c] -> uint8 [size, size, c]; rounded.

    `fraction` is that of centre_windows; below 1 the filter is cubic, as in evaluations of published networks, else a triangle.
    """
    shape = tf.shape(image)
    window = centre_windows(shape[:1], shape[1:2], size, fraction)[0]
    return resampled(image, window, (size, size), cubic=fraction != 1)


def resized(examples: InMemory, size: int, fraction: float = 1.0) -> InMemory:
    """Every image resized; the content hashes stay those of the originals, so that splits do not depend on the size."""
    images = examples.images
    if images.shape[1:3] == (size, size) and fraction == 1:
        return examples
    stream = in_parallel(
        tf.data.Dataset.from_tensor_slices(images), lambda image: resize_and_crop(image, size, fraction)
    )
    return InMemory(np.stack(list(stream.as_numpy_iterator())), examples.labels, examples.content_hashes())
