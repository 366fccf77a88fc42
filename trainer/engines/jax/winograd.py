"""Convolutions of 3x3 windows as Winograd's on a CPU, in matrix products, which XLA computes at a processor's full speed.

Their gradients are Winograd's as well, and share the transforms. Transformed images, which the backward pass needs, take 2.25
times the memory of images, and transformed kernels 4 times that of kernels.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from convoy.trainer.engines.jax.kernels import Padding, Strides
from convoy.trainer.engines.winograd import OF_KERNEL, PLACES, WINDOW, along, tiles_of

# By measurements (benchmarks/results/winograd_jax.csv): of fewer channels the transforms take what products save, and with
# fewer tiles those of kernels do.
_CHANNELS, _TILES = 64, 16
# How many times fewer multiplications, 4 where no tile reaches beyond the outputs.
_SAVED = 1.5
# Pixels of images that one matrix transforms, not one for rows and one for columns.
_SMALL = 64


def applies(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> bool:
    """Whether it is ahead: images [n, h, w, c], kernel [kh, kw, c, o]."""
    *window, channels, outputs = kernel.shape
    if images.dtype == np.float64 or strides != (1, 1) or window != [WINDOW, WINDOW]:
        return False
    sizes = _sizes(images.shape[1:3], padding)
    tiles = math.prod(map(tiles_of, sizes))
    saved = math.prod(sizes) * WINDOW**2 / max(tiles * PLACES**2, 1)
    return min(channels, outputs) >= _CHANNELS and images.shape[0] * tiles >= _TILES and saved >= _SAVED


def convolution(padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images [n, h, w, c], kernel [3, 3, c, o] -> [n, h', w', o].

    Those of 16 bits are computed in float32: XLA multiplies them so anyway, and transforms would lose what digits they have.
    """
    wide = (array.astype(np.float32) for array in (images, kernel))
    return _convolution(tuple(images.shape[1:3]), padding, *wide).astype(images.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolution(sides: tuple[int, ...], padding: Padding, images: jax.Array, kernel: jax.Array) -> jax.Array:
    return _forward(sides, padding, images, kernel)[0]


def _forward(
    sides: tuple[int, ...], padding: Padding, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    transforms = _Transforms(sides, padding)
    entered, of_kernel = transforms.enter(images), transforms.of_kernel(kernel)
    return transforms.leave(transforms.products(entered, of_kernel)), (entered, of_kernel)


def _backward(
    sides: tuple[int, ...], padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    transforms, (entered, of_kernel) = _Transforms(sides, padding), saved
    of_products = transforms.leave_adjoint(gradient)
    of_entered = transforms.products(of_products, of_kernel.swapaxes(-1, -2))
    return transforms.enter_adjoint(of_entered), transforms.of_kernel_adjoint(entered.swapaxes(-1, -2) @ of_products)


_convolution.defvjp(_forward, _backward)


def _sizes(sides: tuple[int, ...], padding: Padding) -> list[int]:
    """Of outputs."""
    return [side + before + after - WINDOW + 1 for side, (before, after) in zip(sides, padding, strict=True)]


class _Transforms:
    """Of images of one size, as products with constants, for which their pixels lead: [h, w, n, c].

    What is transformed has the places of a tile in its leading axes, as each has a product of its own: [36, tiles * n, c] or
    [6, rows of tiles, 6, tiles of a row * n, c].
    """

    def __init__(self, sides: tuple[int, ...], padding: Padding):
        sizes = _sizes(sides, padding)
        rows, columns = (
            along(side, size, before) for side, size, (before, _) in zip(sides, sizes, padding, strict=True)
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
        self._enter, self._leave, self._kernel = enter, leave, np.kron(OF_KERNEL, OF_KERNEL)
        self._sides, self._sizes = list(sides), sizes

    def enter(self, images: jax.Array) -> jax.Array:
        """[n, h, w, c] -> transformed."""
        return self._by_places(self._enter, images)

    def enter_adjoint(self, entered: jax.Array) -> jax.Array:
        return self._by_images(_turned(self._enter), entered, self._sides)

    def leave(self, products: jax.Array) -> jax.Array:
        """Transformed -> [n, h', w', o]."""
        return self._by_images(self._leave, products, self._sizes)

    def leave_adjoint(self, outputs: jax.Array) -> jax.Array:
        return self._by_places(_turned(self._leave), outputs)

    def of_kernel(self, kernel: jax.Array) -> jax.Array:
        """[3, 3, c, o] -> transformed [36, c, o] or [6, 1, 6, c, o]."""
        flat = kernel.reshape(WINDOW**2, -1)
        return _multiplied([self._kernel], flat).reshape(*self._of_kernel, *kernel.shape[2:])

    def of_kernel_adjoint(self, transformed: jax.Array) -> jax.Array:
        """Of each place, or of each place in each row of tiles."""
        if len(self._places) > 1:
            transformed = transformed.sum(1)
        flat = transformed.reshape(PLACES**2, -1)
        return _multiplied([self._kernel.T], flat).reshape(WINDOW, WINDOW, *transformed.shape[-2:])

    def products(self, transformed: jax.Array, of_kernel: jax.Array) -> jax.Array:
        return transformed @ jnp.broadcast_to(of_kernel, (*self._places, *of_kernel.shape[-2:]))

    def _by_places(self, matrices: list[np.ndarray], images: jax.Array) -> jax.Array:
        count, _, _, channels = images.shape
        multiplied = _multiplied(matrices, images.transpose(1, 2, 0, 3))
        return multiplied.reshape(*self._places, self._tiles * count, channels)

    def _by_images(self, matrices: list[np.ndarray], transformed: jax.Array, sizes: list[int]) -> jax.Array:
        count, channels = transformed.shape[-2] // self._tiles, transformed.shape[-1]
        return _multiplied(matrices, transformed).reshape(*sizes, count, channels).transpose(2, 0, 1, 3)


def _turned(matrices: list[np.ndarray]) -> list[np.ndarray]:
    return [matrix.T for matrix in matrices]


def _multiplied(matrices: list[np.ndarray], values: jax.Array) -> jax.Array:
    """Leading axes of values by one matrix, or by one for rows and one for columns."""
    first, *rest = (jnp.asarray(matrix, values.dtype) for matrix in matrices)
    by_rows = first @ values.reshape(first.shape[1], -1)
    if not rest:
        return by_rows
    # One for each row of outputs: XLA would turn what a single one is multiplied by, which is larger.
    second = jnp.broadcast_to(rest[0], (len(by_rows), *rest[0].shape))
    return second @ by_rows.reshape(len(by_rows), second.shape[2], -1)
