"""Convolutions of 3x3 windows as Winograd's on a CPU, in matrix products, which XLA computes at a processor's full speed.

Their gradients are Winograd's as well, and share the transforms. Transformed images, which the backward pass needs, take 2.25
times the memory of images, and transformed kernels 4 times that of kernels.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from convoy.trainer.engines.jax.kernels import Padding, Strides
from convoy.trainer.engines.winograd import WINDOW, Bounds, Transforms

_BOUNDS = Bounds(channels=64, tiles=16, saved=1.5)


def applies(strides: Strides, padding: Padding, images: jax.Array, kernel: jax.Array) -> bool:
    """Whether it is ahead: images [n, h, w, c], kernel [kh, kw, c, o]."""
    sizes = _sizes(images.shape[1:3], padding)
    return images.dtype != np.float64 and _BOUNDS.allow(images.shape, kernel.shape, strides, sizes)


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
    transforms = _transforms(sides, padding)
    entered, of_kernel = transforms.enter(images), transforms.of_kernel(kernel)
    return transforms.leave(_products(entered, of_kernel)), (entered, of_kernel)


def _backward(
    sides: tuple[int, ...], padding: Padding, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    transforms, (entered, of_kernel) = _transforms(sides, padding), kept
    of_products = transforms.leave_adjoint(gradient)
    of_entered = _products(of_products, of_kernel.swapaxes(-1, -2))
    return transforms.enter_adjoint(of_entered), transforms.of_kernel_adjoint(entered.swapaxes(-1, -2) @ of_products)


_convolution.defvjp(_forward, _backward)


def _sizes(sides: tuple[int, ...], padding: Padding) -> list[int]:
    """Of outputs."""
    return [side + before + after - WINDOW + 1 for side, (before, after) in zip(sides, padding, strict=True)]


def _transforms(sides: tuple[int, ...], padding: Padding) -> Transforms:
    return Transforms(sides, _sizes(sides, padding), [before for before, _ in padding], jnp)


def _products(transformed: jax.Array, of_kernel: jax.Array) -> jax.Array:
    """Of each place, and of each row of tiles with the same kernel: XLA would turn what a single one is multiplied by."""
    return transformed @ jnp.broadcast_to(of_kernel, (*transformed.shape[:-2], *of_kernel.shape[-2:]))
