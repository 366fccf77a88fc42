"""Gradients of kernels that oneDNN computes slowly on a CPU, as matrix products, which it computes fast: the same sums.

Where images are small and channels many, its convolution gives each thread a copy of the whole kernel's gradient, more than
caches hold, and adds the copies up (benchmarks/results/step_torch.csv).
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import keras
import tensorflow as tf

from convoy.trainer.engines import patches
from convoy.trainer.engines.tensorflow import winograd
from convoy.trainer.engines.tensorflow.gradients import Gradients, with_gradients

Strides: TypeAlias = tuple[int, int]

# Of a product for each offset of a window: fewer channels leave too little to do between two passes over memory.
_CHANNELS = 256
# The same in float32 where windows are strides apart, which oneDNN's convolution is slower for.
_STRIDED_CHANNELS = 128
# The most rows of it, pixels of all outputs, for which the 16-bit product is ahead.
_ROWS = 32 * 28 * 28


def install(model: keras.Model, in_order: bool, generation: int) -> None:
    """Has the convolutions of a model use them where they apply.

    Args:
      model: changed in place.
      in_order: that of `convolution`.
      generation: of --kernels.
    """
    for layer in model._flatten_layers(include_self=False):
        if type(layer) is not keras.layers.Conv2D or layer.data_format != "channels_last":
            continue
        if layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1):
            patches.replace_convolution(layer, functools.partial(_layer_convolution, layer, in_order, generation))


def _layer_convolution(
    layer: keras.layers.Conv2D, in_order: bool, generation: int, images: tf.Tensor, kernel: tf.Tensor
) -> tf.Tensor:
    strides, padding = tuple(layer.strides), layer.padding.upper()
    images, kernel = tf.convert_to_tensor(images), tf.convert_to_tensor(kernel)
    if generation >= 3 and None not in images.shape:
        sizes = _output_sizes(images, kernel, strides, padding)
        if winograd.applies(images, kernel, strides, sizes):
            return winograd.convolution(images, kernel, sizes, in_order)
    products = by_products(images, kernel, strides, padding, generation)
    if products or in_order:
        return convolution(images, kernel, strides, padding, products, in_order)
    return tf.nn.conv2d(images, kernel, strides, padding)


def by_products(images: tf.Tensor, kernel: tf.Tensor, strides: Strides, padding: str, generation: int) -> bool:
    """Whether products are ahead for the gradient of this kernel, by measurements; `generation` is that of --kernels."""
    if None in images.shape:
        return False
    height, width, channels, outputs = kernel.shape
    pointwise = height == width == 1
    rows = images.shape[0] * math.prod(_output_sizes(images, kernel, strides, padding))
    if images.dtype == tf.float32:
        if pointwise:
            return generation >= 4 or strides == (1, 1)
        return strides != (1, 1) and generation >= 3 and min(channels, outputs) >= _STRIDED_CHANNELS
    return images.dtype == tf.bfloat16 and rows <= _ROWS and (pointwise or min(channels, outputs) >= _CHANNELS)


def convolution(
    images: tf.Tensor,
    kernel: tf.Tensor,
    strides: Strides,
    padding: str,
    products: bool = True,
    in_order: bool = False,
) -> tf.Tensor:
    """Images [n, h, w, c], kernel [kh, kw, c, o], padding "SAME" or "VALID" -> [n, h', w', o].

    `products` computes the kernel's gradient by them. `in_order` computes it before that of the images: the sum over hosts
    begins as soon as can be, and two convolutions do not take turns in the caches of one core.
    """

    @with_gradients
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        def gradients(of_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            options = {"out_backprop": of_outputs, "strides": [1, *strides, 1], "padding": padding}
            if products:
                of_kernel = kernel_gradient(images, of_outputs, kernel.shape, strides, padding)
            else:
                of_kernel = tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel.shape, **options)
            with tf.control_dependencies([of_kernel] if in_order else []):
                of_images = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(images), filter=kernel, **options)
            return of_images, of_kernel

        return tf.nn.conv2d(images, kernel, strides, padding), gradients

    return convolve(images, kernel)


def kernel_gradient(
    images: tf.Tensor, of_outputs: tf.Tensor, shape: tf.TensorShape, strides: Strides, padding: str
) -> tf.Tensor:
    """[kh, kw, c, o]: for each offset of the window, the images there times the gradient of the outputs [n, h', w', o]."""
    height, width, channels, outputs = shape
    rows = tf.reshape(of_outputs, [-1, outputs])
    if height == width == 1 and strides == (1, 1):
        return tf.reshape(tf.matmul(tf.reshape(images, [-1, channels]), rows, transpose_a=True), shape)
    products = [
        tf.matmul(tf.reshape(met, [-1, channels]), rows, transpose_a=True)
        for met in _offsets(images, of_outputs.shape[1:3], (height, width), strides, padding)
    ]
    return tf.reshape(tf.stack(products), shape)


def _offsets(
    images: tf.Tensor, sizes: tuple[int, int], window: tuple[int, int], strides: Strides, padding: str
) -> list[tf.Tensor]:
    """What each offset in a window meets, [n, h', w', c] for each, row by row."""
    count, *sides, channels = images.shape
    grid = [
        (size + (extent - 1) // stride) * stride for size, extent, stride in zip(sizes, window, strides, strict=True)
    ]
    borders = []
    for side, size, extent, stride, whole in zip(sides, sizes, window, strides, grid, strict=True):
        before = max((size - 1) * stride + extent - side, 0) // 2 if padding == "SAME" else 0
        borders.append((before, max(whole - side - before, 0)))
    padded = tf.pad(images, [(0, 0), *borders, (0, 0)])[:, : grid[0], : grid[1]]
    # Neighbours a stride apart come to lie on an axis of their own, or among the channels: slices with steps are slow.
    split = tf.reshape(padded, [count, grid[0] // strides[0], strides[0], grid[1] // strides[1], strides[1] * channels])
    return [
        split[
            :,
            y // strides[0] : y // strides[0] + sizes[0],
            y % strides[0],
            x // strides[1] : x // strides[1] + sizes[1],
            x % strides[1] * channels : (x % strides[1] + 1) * channels,
        ]
        for y in range(window[0])
        for x in range(window[1])
    ]


def _output_sizes(images: tf.Tensor, kernel: tf.Tensor, strides: Strides, padding: str) -> Strides:
    lost = [0, 0] if padding == "SAME" else [side - 1 for side in kernel.shape[:2]]
    height, width = [
        -(-(side - less) // stride) for side, less, stride in zip(images.shape[1:3], lost, strides, strict=True)
    ]
    return height, width
