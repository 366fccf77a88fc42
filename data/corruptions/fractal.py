"""A random cloud by the diamond-square algorithm (Fournier, Fussell and Carpenter 1982)."""

from __future__ import annotations

import numpy as np


def cloud(height: int, width: int, generator: np.random.Generator, decay: float) -> np.ndarray:
    """Densities, float32 [height, width]: part of a square that repeats itself, whose lowest is 0 and whose highest is 1.

    The square's side is the power of two from the larger side on. It starts as a pixel and is doubled: first the centres
    of squares become the mean of four corners, then the middles of edges that of two corners and two centres, all with noise,
    uniform in -a to a. Doubled again, a is decay**2 times smaller.
    """
    field = np.zeros((1, 1))
    for level in range(max(1, (max(height, width) - 1).bit_length())):
        field = _doubled(field, generator, decay ** (-2 * level))
    lowest = field.min()
    return ((field[:height, :width] - lowest) / (field.max() - lowest)).astype(np.float32)


def _doubled(corners: np.ndarray, generator: np.random.Generator, amplitude: float) -> np.ndarray:
    noise = generator.uniform(-amplitude, amplitude, (3, *corners.shape))
    below, beside = np.roll(corners, -1, 0), np.roll(corners, -1, 1)
    centres = (corners + below + beside + np.roll(below, -1, 1)) / 4 + noise[0]
    field = np.empty((2 * corners.shape[0], 2 * corners.shape[1]))
    field[::2, ::2] = corners
    field[1::2, 1::2] = centres
    field[::2, 1::2] = (corners + beside + centres + np.roll(centres, 1, 0)) / 4 + noise[1]
    field[1::2, ::2] = (corners + below + centres + np.roll(centres, 1, 1)) / 4 + noise[2]
    return field
