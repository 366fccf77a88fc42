"""Convolutions of 3x3 windows as Winograd's, in matrix products, which oneDNN and Eigen compute at a processor's full speed.

Their gradients are Winograd's as well, and share the transforms. Transformed images, which the backward pass needs, take 2.25
times the memory of images, and transformed kernels 4 times that of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from convoy.trainer.engines.winograd import OF_KERNEL, PLACES, WINDOW, along, tiles_of

Gradients: TypeAlias = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Sizes: TypeAlias = tuple[int, int]

# By measurements (benchmarks/results/winograd.csv): of fewer channels the transforms take what products save, and with fewer
# tiles those of kernels do.
_CHANNELS, _TILES = 128, 64
# How many times fewer multiplications, 4 where no tile reaches beyond the outputs.
_SAVED = 2.7
# Pixels of images that one matrix transforms, not one for rows and one for columns.
_SMALL = 64


def applies(images: tf.Tensor, kernel: tf.Tensor, strides: Sizes, sizes: Sizes) -> bool:
    """Whether it is ahead: images [n, h, w, c], kernel [kh, kw, c, o], outputs of `sizes` (h', w')."""
    *window, channels, outputs = kernel.shape
    if images.dtype != tf.float32 or None in images.shape or strides != (1, 1) or window != [WINDOW, WINDOW]:
        return False
    tiles = math.prod(map(tiles_of, sizes))
    saved = math.prod(sizes) * WINDOW**2 / (tiles * PLACES**2)
    return min(channels, outputs) >= _CHANNELS and images.shape[0] * tiles >= _TILES and saved >= _SAVED


def convolution(images: tf.Tensor, kernel: tf.Tensor, sizes: Sizes, in_order: bool = False) -> tf.Tensor:
    """Images [n, h, w, c], kernel [3, 3, c, o] -> [n, h', w', o], of `sizes` (h', w'): as large, or smaller by two.

    `in_order` computes the kernel's gradient before that of the images (`convolutions.convolution`).
    """
    transforms = _Transforms(tuple(images.shape[1:3]), sizes)

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


class _Transforms:
    """Of images of one size, as products with constants, for which their pixels lead: [h, w, n, c].

    What is transformed has the places of a tile in its leading axes, as each has a product of its own: [36, tiles * n, c] or
    [6, rows of tiles, 6, tiles of a row * n, c].
    """

    def __init__(self, sides: Sizes, sizes: Sizes):
        rows, columns = (
            along(side, size, (size + WINDOW - 1 - side) // 2) for side, size in zip(sides, sizes, strict=True)
        )
        height, width = map(tiles_of, sizes)
        if math.prod(sides) <= _SMALL:
            enter = [np.einsum("qsh,ptw->qpsthw", rows[0], columns[0]).reshape(-1, math.prod(sides))]
            leave = [np.einsum("hqs,wpt->hwqpst", rows[1], columns[1]).reshape(math.prod(sizes), -1)]
            self._places, self._tiles, self._of_kernel = [PLACES**2], height * width, [PLACES**2]
        else:
            enter = [matrix.reshape(-1, matrix.shape[-1]) for matrix in (rows[0], columns[0])]
            leave = [matrix.reshape(len(matrix), -1) for matrix in (rows[1], columns[1])]
            self._places, self._tiles, self._of_kernel = [PLACES, height, PLACES], width, [PLACES, 1, PLACES]
        self._enter, self._leave = _constants(*enter), _constants(*leave)
        self._kernel = _constants(np.kron(OF_KERNEL, OF_KERNEL))[0]
        self._sides, self._sizes = sides, sizes

    def enter(self, images: tf.Tensor) -> tf.Tensor:
        """[n, h, w, c] -> transformed."""
        return self._by_places(self._enter, images, adjoint=False)

    def enter_adjoint(self, entered: tf.Tensor) -> tf.Tensor:
        return self._by_images(self._enter, entered, self._sides, adjoint=True)

    def leave(self, products: tf.Tensor) -> tf.Tensor:
        """Transformed -> [n, h', w', o]."""
        return self._by_images(self._leave, products, self._sizes, adjoint=False)

    def leave_adjoint(self, outputs: tf.Tensor) -> tf.Tensor:
        return self._by_places(self._leave, outputs, adjoint=True)

    def of_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        """[3, 3, c, o] -> transformed [36, c, o] or [6, 1, 6, c, o]."""
        flat = tf.reshape(kernel, [WINDOW**2, -1])
        return tf.reshape(tf.matmul(self._kernel, flat), [*self._of_kernel, *kernel.shape[2:]])

    def of_kernel_adjoint(self, transformed: tf.Tensor) -> tf.Tensor:
        """Of each place, or of each place in each row of tiles."""
        channels = transformed.shape[-2:]
        if len(self._places) > 1:
            transformed = tf.reduce_sum(transformed, axis=1)
        flat = tf.reshape(transformed, [PLACES**2, -1])
        return tf.reshape(tf.matmul(self._kernel, flat, transpose_a=True), [WINDOW, WINDOW, *channels])

    def _by_places(self, matrices: list[tf.Tensor], images: tf.Tensor, adjoint: bool) -> tf.Tensor:
        count, _, _, channels = images.shape
        multiplied = _multiplied(matrices, tf.transpose(images, [1, 2, 0, 3]), adjoint)
        return tf.reshape(multiplied, [*self._places, self._tiles * count, channels])

    def _by_images(self, matrices: list[tf.Tensor], transformed: tf.Tensor, sizes: Sizes, adjoint: bool) -> tf.Tensor:
        count, channels = transformed.shape[-2] // self._tiles, transformed.shape[-1]
        multiplied = _multiplied(matrices, transformed, adjoint)
        return tf.transpose(tf.reshape(multiplied, [*sizes, count, channels]), [2, 0, 1, 3])


def _multiplied(matrices: list[tf.Tensor], values: tf.Tensor, adjoint: bool) -> tf.Tensor:
    """Leading axes of values by one matrix, or by one for rows and one for columns."""
    lead = [matrix.shape[0 if adjoint else 1] for matrix in matrices]
    by_rows = tf.matmul(matrices[0], tf.reshape(values, [lead[0], -1]), transpose_a=adjoint)
    if len(matrices) == 1:
        return by_rows
    split = tf.reshape(by_rows, [by_rows.shape[0], lead[1], -1])
    return tf.matmul(matrices[1][None], split, transpose_a=adjoint)


def _constants(*matrices: np.ndarray) -> list[tf.Tensor]:
    return [tf.constant(matrix, tf.float32) for matrix in matrices]
