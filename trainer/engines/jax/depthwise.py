"""Depthwise convolutions on a CPU as sums of shifted images, each times a tap of the kernel: the same numbers as XLA's.

XLA's own has a loop that no vector instruction computes, and its gradients are convolutions with a group for each channel.
What is here are elementwise operations, and one reduction that sums the products of all taps in a single pass.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TypeAlias

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from convoy.trainer.engines import patches

Strides: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[tuple[int, int], ...]  # (before, after) of each side


def install(model: keras.Model) -> None:
    """Has the layers of a model use them, where they apply."""
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "data_format", "") != "channels_last" or tuple(getattr(layer, "dilation_rate", ())) != (1, 1):
            continue
        if type(layer) is keras.layers.DepthwiseConv2D:
            patches.replace_depthwise(layer, functools.partial(_call, layer))
        if type(layer) is keras.layers.SeparableConv2D:
            patches.replace_separable(layer, functools.partial(_call_separable, layer))


def _call(layer: keras.layers.DepthwiseConv2D, inputs: jax.Array) -> jax.Array:
    return _finish(layer, _convolve(layer, inputs, jnp.asarray(layer.kernel)))


def _call_separable(layer: keras.layers.SeparableConv2D, inputs: jax.Array) -> jax.Array:
    between = _convolve(layer, inputs, jnp.asarray(layer.depthwise_kernel))
    return _finish(layer, between @ jnp.asarray(layer.pointwise_kernel)[0, 0])


def _convolve(
    layer: keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
    strides = tuple(layer.strides)
    padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, layer.padding.upper())
    return depthwise(strides, tuple(padding), inputs, kernel)


def _finish(layer: keras.layers.Layer, outputs: jax.Array) -> jax.Array:
    """With the layer's bias and activation."""
    outputs = outputs + jnp.asarray(layer.bias) if layer.use_bias else outputs
    return outputs if layer.activation is None else layer.activation(outputs)


def depthwise(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [n, h, w, c], kernel [kh, kw, c, multiplier] -> [n, h', w', c * multiplier]."""
    height, width, channels, multiplier = kernel.shape
    repeated = jnp.repeat(images, multiplier, axis=3) if multiplier > 1 else images
    return _depthwise(strides, padding, repeated, kernel.reshape(height, width, channels * multiplier))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [n, h, w, c], kernel [kh, kw, c] -> [n, h', w', c]."""
    sizes = zip(images.shape[1:3], kernel.shape[:2], strides, padding, strict=True)
    outputs = [(size + low + high - k) // stride + 1 for size, k, stride, (low, high) in sizes]
    taps = kernel.astype(_sum_dtype(kernel))
    windows = _windows(images, kernel.shape[:2], outputs, strides, padding)
    return sum(window * taps[y, x] for (y, x), window in windows).astype(images.dtype)


def _sum_dtype(array: jax.Array) -> np.dtype:
    """What to sum in: a sum in 16 bits would be rounded after each tap."""
    return jnp.promote_types(array.dtype, jnp.float32)


def _windows(
    images: jax.Array, kernel: tuple[int, ...], outputs: list[int], strides: Strides, padding: Padding
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """For each tap (y, x) of a kernel the pixels [n, *outputs, c] that it meets, in the dtype of sums."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    spans = [(size - 1) * stride + 1 for size, stride in zip(outputs, strides, strict=True)]
    for y, x in np.ndindex(*kernel[:2]):
        window = padded[:, y : y + spans[0] : strides[0], x : x + spans[1] : strides[1]]
        yield (y, x), window.astype(_sum_dtype(images))


def _forward(
    strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _depthwise(strides, padding, images, kernel), (images, kernel)


def _backward(
    strides: Strides, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    return (
        _image_gradient(strides, padding, images.shape, kernel, gradient).astype(images.dtype),
        _kernel_gradient(strides, padding, images, kernel.shape, gradient).astype(kernel.dtype),
    )


def _kernel_gradient(
    strides: Strides, padding: Padding, images: jax.Array, kernel: tuple[int, ...], gradient: jax.Array
) -> jax.Array:
    outputs, gradient = list(gradient.shape[1:3]), gradient.astype(_sum_dtype(gradient))
    products = [window * gradient for _, window in _windows(images, kernel, outputs, strides, padding)]
    zeros = [np.zeros((), gradient.dtype)] * len(products)
    # One reduction, in which XLA computes the products too: one for each tap would read all as often. It keeps the images
    # apart, as XLA shares such a loop among cores only by what it keeps.
    per_image = lax.reduce(products, zeros, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (1, 2))
    return jnp.stack([jnp.sum(tap, axis=0) for tap in per_image]).reshape(kernel)


def _image_gradient(
    strides: Strides, padding: Padding, images: tuple[int, ...], kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    """The gradient of images by the phase of a pixel in the strides: no tap but those that met it is computed."""
    count, *sizes, channels = images
    quotients = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    # Output o met pixel i through tap k where o * stride + k = i + low, and so pixel q * stride + phase through those taps for
    # which (phase + low - k) / stride is whole: the output q + that.
    pads = [
        (max(0, -((low + 1 - k) // stride)), max(0, quotient + (stride - 1 + low) // stride - output))
        for k, output, quotient, stride, (low, _) in zip(
            kernel.shape[:2], gradient.shape[1:3], quotients, strides, padding, strict=True
        )
    ]
    padded, taps = jnp.pad(gradient, ((0, 0), *pads, (0, 0))), kernel.astype(_sum_dtype(kernel))
    phases = []
    for phase in np.ndindex(*strides):
        first_taps = [(p + low) % stride for p, stride, (low, _) in zip(phase, strides, padding, strict=True)]
        total = jnp.zeros((count, *quotients, channels), taps.dtype)
        for y in range(first_taps[0], kernel.shape[0], strides[0]):
            for x in range(first_taps[1], kernel.shape[1], strides[1]):
                top, start = (
                    before + (p + low - k) // stride
                    for k, p, stride, (low, _), (before, _) in zip((y, x), phase, strides, padding, pads, strict=True)
                )
                window = padded[:, top : top + quotients[0], start : start + quotients[1]]
                total += window.astype(taps.dtype) * taps[y, x]
        phases.append(total.astype(gradient.dtype))
    grid = jnp.stack(phases, axis=3).reshape(count, *quotients, *strides, channels).transpose(0, 1, 3, 2, 4, 5)
    grid = grid.reshape(count, *(q * stride for q, stride in zip(quotients, strides, strict=True)), channels)
    return grid[:, : sizes[0], : sizes[1]]


_depthwise.defvjp(_forward, _backward)
