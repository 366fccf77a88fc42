"""Any image to a square of the asked size: resize the shorter side, antialiased, and take the centre."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from data.parallel import in_parallel
from data.sources.examples import InMemory


def resize_and_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """uint8 [h, w, c] -> uint8 [size, size, c]; bilinear with antialiasing, rounded."""
    shape = tf.shape(image)[:2]
    shorter = tf.reduce_min(shape)
    # Rounded up: rounding down could leave a side one pixel short of the crop.
    scaled = -(-shape * size // shorter)
    pixels = tf.image.resize(image, scaled, method="bilinear", antialias=True)
    top, left = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    pixels = pixels[top : top + size, left : left + size]
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def resized(examples: InMemory, size: int) -> InMemory:
    """Every image resized; the content hashes stay those of the originals, so that splits do not depend on the size."""
    images = examples.images
    if images.shape[1:3] == (size, size):
        return examples
    stream = in_parallel(tf.data.Dataset.from_tensor_slices(images), lambda image: resize_and_crop(image, size))
    return InMemory(np.stack(list(stream.as_numpy_iterator())), examples.labels, examples.content_hashes())
