"""Winograd's convolution F(4x4, 3x3), of 36 products where the sums over windows need 144, as matrix products.

Lavin and Gray 2016, https://arxiv.org/abs/1509.09308, section 4; built as Barabasz et al. 2020,
https://arxiv.org/abs/1803.10986, section 3 do, with the points 0, 1, -1, 1/2, -2 and infinity, which round less than
0, 1, -1, 2, -2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.polynomial import polynomial

from convoy.data.arrays import Array

Matrices: TypeAlias = list[np.ndarray]  # one for all pixels, or one for rows and one for columns

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
OUTPUTS, WINDOW = 4, 3  # of a tile, and of a kernel, along each axis
PLACES = OUTPUTS + WINDOW - 1
# Pixels of images that one matrix transforms, not one for rows and one for columns.
_SMALL = 64


def _constants() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one tile: of inputs [6, 6], of a kernel [6, 3] and of outputs [4, 6]."""
    inputs, kernel, outputs = np.zeros((PLACES, PLACES)), np.zeros((PLACES, WINDOW)), np.zeros((OUTPUTS, PLACES))
    for row, point in enumerate(_POINTS):
        others = [other for other in _POINTS if other != point]
        inputs[row, :-1] = polynomial.polyfromroots(others)
        kernel[row] = point ** np.arange(WINDOW) / np.prod([point - other for other in others])
        outputs[:, row] = point ** np.arange(OUTPUTS)
    inputs[-1] = polynomial.polyfromroots(_POINTS)
    kernel[-1, -1] = outputs[-1, -1] = 1  # infinity
    return inputs, kernel, outputs


_INPUTS, OF_KERNEL, _OUTPUTS = _constants()


def tiles_of(outputs: int) -> int:
    """How many cover an axis of that many outputs."""
    return -(-outputs // OUTPUTS)


def along(inputs: int, outputs: int, before: int) -> tuple[np.ndarray, np.ndarray]:
    """What one axis is multiplied by: inputs by [6, tiles, inputs], the products of their tiles by [outputs, 6, tiles].

    Args:
      inputs: pixels.
      outputs: pixels.
      before: zeros that padding puts before the first pixel; those after the last are as many as outputs need.
    """
    count = tiles_of(outputs)
    enters = np.zeros((PLACES, count, before + OUTPUTS * count + WINDOW - 1))
    leaves = np.zeros((OUTPUTS * count, PLACES, count))
    for tile in range(count):
        first = OUTPUTS * tile
        enters[:, tile, first : first + PLACES] = _INPUTS
        leaves[first : first + OUTPUTS, :, tile] = _OUTPUTS
    reached = enters[:, :, before : before + inputs]
    return np.pad(reached, [(0, 0), (0, 0), (0, inputs - reached.shape[2])]), leaves[:outputs]


def saved(sizes: Sequence[int]) -> float:
    """How many times fewer multiplications outputs of these sizes need: 4 where no tile reaches beyond them."""
    return math.prod(sizes) * WINDOW**2 / max(math.prod(map(tiles_of, sizes)) * PLACES**2, 1)


class Bounds(NamedTuple):
    """What a convolution needs to be faster this way, by measurements (benchmarks/results/winograd.csv).

    Attributes:
      channels: of images and of outputs: of fewer the transforms take what products save.
      tiles: of all images: with fewer the transform of the kernel does.
      saved: as the function.
    """

    channels: int
    tiles: int
    saved: float

    def allow(self, images: Sequence[int], kernel: Sequence[int], strides: Sequence[int], sizes: Sequence[int]) -> bool:
        """Whether images [n, h, w, c] and a kernel [kh, kw, c, o] reach them, with outputs of `sizes` (h', w')."""
        *window, channels, outputs = kernel
        if tuple(strides) != (1, 1) or window != [WINDOW, WINDOW] or min(channels, outputs) < self.channels:
            return False
        return images[0] * math.prod(map(tiles_of, sizes)) >= self.tiles and saved(sizes) >= self.saved


class Transforms:
    """Of images of one size, as products with constants, for which their pixels lead: [h, w, n, c].

    What is transformed has the places of a tile in its leading axes, as each has a product of its own: [36, tiles * n, c] or
    [6, rows of tiles, 6, tiles of a row * n, c].

    Args:
      sides: of images (h, w).
      sizes: of outputs (h', w').
      before: zeros before the first row, and before the first column.
      library: tensorflow or jax.numpy, of the arrays, which are float32.
    """

    def __init__(self, sides: Sequence[int], sizes: Sequence[int], before: Sequence[int], library: ModuleType):
        rows, columns = map(along, sides, sizes, before)
        height, width = map(tiles_of, sizes)
        if math.prod(sides) <= _SMALL:
            enter = [np.einsum("qsh,ptw->qpsthw", rows[0], columns[0]).reshape(-1, math.prod(sides))]
            leave = [np.einsum("hqs,wpt->hwqpst", rows[1], columns[1]).reshape(math.prod(sizes), -1)]
            self._places, self._tiles, self._of_kernel = [PLACES**2], height * width, [PLACES**2]
        else:
            enter = [matrix.reshape(-1, matrix.shape[-1]) for matrix in (rows[0], columns[0])]
            leave = [matrix.reshape(len(matrix), -1) for matrix in (rows[1], columns[1])]
            self._places, self._tiles, self._of_kernel = [PLACES, height, PLACES], width, [PLACES, 1, PLACES]
        self._enter, self._leave, self._kernel = enter, leave, [np.kron(OF_KERNEL, OF_KERNEL)]
        self._sides, self._sizes, self._library = list(sides), list(sizes), library

    def enter(self, images: Array) -> Array:
        """[n, h, w, c] -> transformed."""
        return self._by_places(self._enter, images)

    def enter_adjoint(self, entered: Array) -> Array:
        return self._by_images(_turned(self._enter), entered, self._sides)

    def leave(self, products: Array) -> Array:
        """Transformed -> [n, h', w', o]."""
        return self._by_images(self._leave, products, self._sizes)

    def leave_adjoint(self, outputs: Array) -> Array:
        return self._by_places(_turned(self._leave), outputs)

    def of_kernel(self, kernel: Array) -> Array:
        """[3, 3, c, o] -> transformed [36, c, o] or [6, 1, 6, c, o]."""
        flat = self._library.reshape(kernel, [WINDOW**2, -1])
        return self._library.reshape(self._multiplied(self._kernel, flat), [*self._of_kernel, *kernel.shape[2:]])

    def of_kernel_adjoint(self, transformed: Array) -> Array:
        """Of each place, or of each place in each row of tiles."""
        channels = transformed.shape[-2:]
        if len(self._places) > 1:
            transformed = self._library.einsum("qspco->qpco", transformed)
        flat = self._library.reshape(transformed, [PLACES**2, -1])
        return self._library.reshape(self._multiplied(_turned(self._kernel), flat), [WINDOW, WINDOW, *channels])

    def _by_places(self, matrices: Matrices, images: Array) -> Array:
        count, _, _, channels = images.shape
        multiplied = self._multiplied(matrices, self._library.transpose(images, [1, 2, 0, 3]))
        return self._library.reshape(multiplied, [*self._places, self._tiles * count, channels])

    def _by_images(self, matrices: Matrices, transformed: Array, sizes: list[int]) -> Array:
        count, channels = transformed.shape[-2] // self._tiles, transformed.shape[-1]
        images = self._library.reshape(self._multiplied(matrices, transformed), [*sizes, count, channels])
        return self._library.transpose(images, [2, 0, 1, 3])

    def _multiplied(self, matrices: Matrices, values: Array) -> Array:
        """Leading axes of values by one matrix, or by one for rows and one for columns."""
        library, (first, *rest) = self._library, [matrix.astype(np.float32) for matrix in matrices]
        by_rows = library.matmul(first, library.reshape(values, [first.shape[1], -1]))
        if not rest:
            return by_rows
        # One for each row of outputs: XLA would turn what a single one is multiplied by, which is larger.
        count, (outputs, inputs) = by_rows.shape[0], rest[0].shape
        second = library.broadcast_to(rest[0], [count, outputs, inputs])
        return library.matmul(second, library.reshape(by_rows, [count, inputs, -1]))


def _turned(matrices: Matrices) -> Matrices:
    return [matrix.T for matrix in matrices]
