"""Convolutions of --kernels=2 on a CPU: a window of one pixel is a matrix product, and a kernel's gradient a few small ones.

With --kernels=3 those of 3x3 windows are Winograd's, where that is ahead.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from convoy.trainer.engines import patches
from convoy.trainer.engines.jax import kernels, winograd
from convoy.trainer.engines.jax.kernels import Padding, Strides

# Of a matrix of windows that stays in a core's cache from where it is written to where it is read.
_WINDOW_BYTES = 3e6


def install(model: keras.Model, winograds: bool) -> None:
    """Has the layers of a model use them, or Winograd's, where they apply."""
    fastest = winograd_or_not if winograds else convolution
    for layer in kernels.convolutions_of(model):
        patches.replace_convolution(layer, functools.partial(kernels.convolve, layer, fastest))


def winograd_or_not(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """As `convolution`, by the way that is ahead."""
    if winograd.applies(strides, padding, images, kernel):
        return winograd.convolution(padding, images, kernel)
    return convolution(strides, padding, images, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def convolution(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [n, h, w, c], kernel [kh, kw, c, o] -> [n, h', w', o]."""
    if _is_product(strides, kernel):
        return images @ kernel[0, 0]
    return kernels.convolution(strides, padding, images, kernel)


def _is_product(strides: Strides, kernel: jax.Array) -> bool:
    """Whether a convolution is one matrix product, which XLA computes much more slowly as a convolution."""
    return kernel.shape[:2] == strides == (1, 1)


def _forward(
    strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(strides, padding, images, kernel), (images, kernel)


def _backward(
    strides: Strides, padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    if _is_product(strides, kernel):
        of_images = gradient @ kernel[0, 0].T
    else:
        of_images = kernels.image_gradient(strides, padding, images.shape[1:3], kernel, gradient)
    return of_images, _kernel_gradient(strides, padding, images, kernel, gradient)


def _kernel_gradient(
    strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    """The sum over groups of images of a matrix product, each small enough for a core's cache: all windows are not."""
    count, rows, columns, outputs = gradient.shape
    columns_of_windows = kernel.size // outputs
    bytes_per_image = rows * columns * columns_of_windows * gradient.dtype.itemsize
    size = max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * bytes_per_image <= _WINDOW_BYTES))
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        group, of_group = (lax.dynamic_slice_in_dim(array, index * size, size) for array in (padded, gradient))
        windows = kernels.windows(strides, group, kernel.shape[:2], (rows, columns))
        matrices = jnp.concatenate(windows, axis=1), of_group.reshape(-1, outputs)
        first, second = reversed(matrices) if gradient_first else matrices
        return total + (first.T @ second).astype(total.dtype)

    # XLA first transposes the first factor, so that is the smaller of the two.
    gradient_first = outputs < columns_of_windows
    shape = (outputs, columns_of_windows) if gradient_first else (columns_of_windows, outputs)
    zeros = jnp.zeros(shape, jnp.promote_types(gradient.dtype, np.float32))
    total = lax.fori_loop(0, count // size, add, zeros)
    return (total.T if gradient_first else total).reshape(kernel.shape).astype(kernel.dtype)


convolution.defvjp(_forward, _backward)
