"""An image of any size to a square of the asked size, antialiased: the part that a view shows."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Image
from convoy.data.images.crop_geometry import centre_windows, resampled
from convoy.data.images.view import View
from convoy.data.parallel import in_parallel
from convoy.data.sources.in_memory import InMemory


def resize_and_crop(image: Image, view: View) -> Image:
    """uint8 [h, w, c] -> uint8 [size, size, c]; rounded.

    The filter is cubic where less than a whole side is shown, as in evaluations of published networks, else a triangle.
    """
    shape = tf.shape(image)
    window = centre_windows(shape[:1], shape[1:2], view)[0]
    return resampled(image, window, (view.size, view.size), cubic=view.fraction != 1)


def resized(examples: InMemory, view: View) -> InMemory:
    """Every image resized; the content hashes stay those of the originals, so that splits do not depend on the size."""
    images = examples.images
    if images.shape[1:3] == (view.size, view.size) and view.fraction == 1:
        return examples
    stream = in_parallel(tf.data.Dataset.from_tensor_slices(images), lambda image: resize_and_crop(image, view))
    return InMemory(np.stack(list(stream.as_numpy_iterator())), examples.labels, examples.content_hashes())
