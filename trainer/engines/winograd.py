"""The constants of Winograd's convolution F(4x4, 3x3), of 36 products where the sum over a window needs 144.

Lavin and Gray 2016, https://arxiv.org/abs/1509.09308, section 4; built as Barabasz et al. 2020,
https://arxiv.org/abs/1803.10986, section 3 do, with the points 0, 1, -1, 1/2, -2 and infinity, which round less than
0, 1, -1, 2, -2.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import polynomial

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
OUTPUTS, WINDOW = 4, 3  # of a tile, and of a kernel, along each axis
PLACES = OUTPUTS + WINDOW - 1


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
