"""Gradients that XLA computes slowly on a CPU, written so that they are fast there: the same numbers by another way.

- Of a convolution's kernel: a matrix product, where XLA has a convolution with a window as large as the image.
- Of its images: a convolution in the one order of dimensions that is fast inside a loop, too.
- Of max-pooling: a selection, where XLA has a scatter on one core.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import keras
from jax import lax

from convoy.trainer.engines import patches

Strides: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[tuple[int, int], ...]  # (before, after) of each side
Convolution: TypeAlias = Callable[[Strides, Padding, jax.Array, jax.Array], jax.Array]  # as `convolution`
_NHWC = ("NHWC", "HWIO", "NHWC")


def install(model: keras.Model) -> None:
    """Has the layers of a model use them, where they apply."""
    for layer in convolutions_of(model):
        patches.replace_convolution(layer, functools.partial(convolve, layer, convolution))
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "data_format", "") != "channels_last":
            continue
        side_by_side = type(layer) is keras.layers.MaxPooling2D and tuple(layer.pool_size) == tuple(layer.strides)
        if side_by_side and layer.padding == "valid":
            patches.replace_pooling(layer, functools.partial(max_pool, tuple(layer.pool_size)))


def convolutions_of(model: keras.Model) -> list[keras.layers.Conv2D]:
    """The layers whose convolution is `convolution`."""
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if type(layer) is keras.layers.Conv2D
        and layer.data_format == "channels_last"
        and layer.groups == 1
        and tuple(layer.dilation_rate) == (1, 1)
    ]


def convolve(layer: keras.layers.Conv2D, convolution: Convolution, inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """A layer's inputs, convolved with its kernel."""
    strides = tuple(layer.strides)
    padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, layer.padding.upper())
    return convolution(strides, tuple(padding), inputs, jnp.asarray(kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def convolution(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [n, h, w, c], kernel [kh, kw, c, o] -> [n, h', w', o]."""
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=_NHWC)


def _forward(
    strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(strides, padding, images, kernel), (images, kernel)


def _backward(
    strides: Strides, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    columns = jnp.concatenate(windows(strides, padded, kernel.shape[:2], gradient.shape[1:3]), axis=1)
    product = columns.T @ gradient.reshape(-1, kernel.shape[3])
    return image_gradient(strides, padding, images.shape[1:3], kernel, gradient), product.reshape(kernel.shape)


def windows(strides: Strides, padded: jax.Array, kernel: tuple[int, ...], outputs: tuple[int, ...]) -> list[jax.Array]:
    """For each tap of a kernel [kh, kw] the pixels that meet it, [n * h' * w', c], where outputs have [h', w']."""
    (count, _, _, channels), (rows, columns) = padded.shape, outputs
    return [
        lax.slice(
            padded,
            (0, y, x, 0),
            (count, y + (rows - 1) * strides[0] + 1, x + (columns - 1) * strides[1] + 1, channels),
            (1, *strides, 1),
        ).reshape(-1, channels)
        for y in range(kernel[0])
        for x in range(kernel[1])
    ]


def image_gradient(
    strides: Strides, padding: Padding, image: tuple[int, ...], kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    """The gradient of images of [h, w] pixels."""
    # Written out: XLA brings a convolution of another dimension order into its fast form outside of loops only.
    turned = jnp.flip(kernel, (0, 1)).transpose(0, 1, 3, 2)
    sides = [
        (k - 1 - low, size - 1 - (out - 1) * stride + low)
        for k, size, out, stride, (low, _) in zip(
            kernel.shape[:2], image, gradient.shape[1:3], strides, padding, strict=True
        )
    ]
    return lax.conv_general_dilated(gradient, turned, (1, 1), sides, strides, dimension_numbers=_NHWC)


convolution.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def max_pool(size: tuple[int, int], images: jax.Array) -> jax.Array:
    """The largest of each window of `size`, side by side, [n, h, w, c] -> [n, h // size, w // size, c]."""
    return jnp.max(jnp.stack(_taps(size, images)), axis=0)


def _taps(size: tuple[int, int], images: jax.Array) -> list[jax.Array]:
    rows, columns = images.shape[1] // size[0] * size[0], images.shape[2] // size[1] * size[1]
    return [images[:, y : rows : size[0], x : columns : size[1]] for y in range(size[0]) for x in range(size[1])]


def _pool_forward(size: tuple[int, int], images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    pooled = max_pool(size, images)
    return pooled, (images, pooled)


def _pool_backward(size: tuple[int, int], saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    """The whole gradient goes to the first of equals, as in XLA's and TensorFlow's own."""
    images, pooled = saved
    taken, gradients = jnp.zeros(pooled.shape, bool), []
    for tap in _taps(size, images):
        hit = (tap == pooled) & ~taken
        taken |= hit
        gradients.append(jnp.where(hit, gradient, 0))
    count, rows, columns, channels = gradient.shape
    grid = jnp.stack(gradients, axis=3).reshape(count, rows, columns, *size, channels).transpose(0, 1, 3, 2, 4, 5)
    grid = grid.reshape(count, rows * size[0], columns * size[1], channels)
    rest = ((0, 0), (0, images.shape[1] - grid.shape[1]), (0, images.shape[2] - grid.shape[2]), (0, 0))
    return (jnp.pad(grid, rest),)


max_pool.defvjp(_pool_forward, _pool_backward)
