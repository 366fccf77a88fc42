"""Winograd's convolutions on a CPU: matrix products, which oneDNN and Eigen compute at a processor's full speed.

Their gradients are Winograd's as well, and share the transforms. Transformed images, which the backward pass needs, take 2.25
times the memory of images, and transformed kernels 4 times that of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from convoy.trainer.engines.winograd import WINDOW, Transforms, saved, tiles_of

Gradients: TypeAlias = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Sizes: TypeAlias = tuple[int, int]

# By measurements (benchmarks/results/winograd.csv): of fewer channels the transforms take what products save, and with fewer
# tiles those of kernels do.
_CHANNELS, _TILES, _SAVED = 128, 64, 2.7


def applies(images: tf.Tensor, kernel: tf.Tensor, strides: Sizes, sizes: Sizes) -> bool:
    """Whether it is ahead: images [n, h, w, c], kernel [kh, kw, c, o], outputs of `sizes` (h', w')."""
    *window, channels, outputs = kernel.shape
    if images.dtype != tf.float32 or strides != (1, 1) or window != [WINDOW, WINDOW]:
        return False
    tiles = images.shape[0] * math.prod(map(tiles_of, sizes))
    return min(channels, outputs) >= _CHANNELS and tiles >= _TILES and saved(sizes) >= _SAVED


def convolution(images: tf.Tensor, kernel: tf.Tensor, sizes: Sizes, in_order: bool = False) -> tf.Tensor:
    """Images [n, h, w, c], kernel [3, 3, c, o] -> [n, h', w', o], of `sizes` (h', w'): as large, or smaller by two.

    `in_order` computes the kernel's gradient before that of the images (`convolutions.convolution`).
    """
    sides = images.shape[1:3]
    before = [(size + WINDOW - 1 - side) // 2 for side, size in zip(sides, sizes, strict=True)]
    transforms = Transforms(sides, sizes, before)

    @tf.custom_gradient
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        entered, of_kernel = transforms.enter(images), transforms.of_kernel(kernel)

        def gradients(of_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_products = transforms.leave_adjoint(of_outputs)
            kernel_gradient = transforms.of_kernel_adjoint(tf.matmul(entered, of_products, transpose_a=True))
            with tf.control_dependencies([kernel_gradient] if in_order else []):
                of_entered = tf.matmul(of_products, of_kernel, transpose_b=True)
            return transforms.enter_adjoint(of_entered), kernel_gradient

        return transforms.leave(tf.matmul(entered, of_kernel)), gradients

    return convolve(images, kernel)
