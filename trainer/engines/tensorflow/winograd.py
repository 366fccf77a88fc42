"""Winograd's convolutions on a CPU: matrix products, which oneDNN and Eigen compute at a processor's full speed.

Their gradients are Winograd's as well, and share the transforms. Transformed images, which the backward pass needs, take 2.25
times the memory of images, and transformed kernels 4 times that of kernels.
"""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

from convoy.trainer.engines.tensorflow.gradients import Gradients, with_gradients
from convoy.trainer.engines.winograd import WINDOW, Bounds, Transforms

Sizes: TypeAlias = tuple[int, int]

# In 16 bits too it computes in float32, where products take twice the time.
_BOUNDS = {tf.float32: Bounds(channels=128, tiles=64, saved=2), tf.bfloat16: Bounds(channels=256, tiles=64, saved=3.5)}


def applies(images: tf.Tensor, kernel: tf.Tensor, strides: Sizes, sizes: Sizes) -> bool:
    """Whether it is ahead: images [n, h, w, c], kernel [kh, kw, c, o], outputs of `sizes` (h', w')."""
    bounds = _BOUNDS.get(images.dtype)
    return bounds is not None and bounds.allow(images.shape, kernel.shape, strides, sizes)


def convolution(images: tf.Tensor, kernel: tf.Tensor, sizes: Sizes, in_order: bool = False) -> tf.Tensor:
    """Images [n, h, w, c], kernel [3, 3, c, o] -> [n, h', w', o], of `sizes` (h', w'): as large, or smaller by two.

    Those of 16 bits are computed in float32: transforms would lose what digits they have. `in_order` computes the kernel's
    gradient before that of the images (`convolutions.convolution`).
    """
    sides = images.shape[1:3]
    before = [(size + WINDOW - 1 - side) // 2 for side, size in zip(sides, sizes, strict=True)]
    transforms = Transforms(sides, sizes, before, tf)

    @with_gradients
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        entered, of_kernel = transforms.enter(images), transforms.of_kernel(kernel)

        def gradients(of_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_products = transforms.leave_adjoint(of_outputs)
            kernel_gradient = transforms.of_kernel_adjoint(tf.matmul(entered, of_products, transpose_a=True))
            with tf.control_dependencies([kernel_gradient] if in_order else []):
                of_entered = tf.matmul(of_products, of_kernel, transpose_b=True)
            return transforms.enter_adjoint(of_entered), kernel_gradient

        return transforms.leave(tf.matmul(entered, of_kernel)), gradients

    return tf.cast(convolve(tf.cast(images, tf.float32), tf.cast(kernel, tf.float32)), images.dtype)
