"""Which pixel each pixel shows after glass blur's shuffle."""

from __future__ import annotations

import numpy as np


def shuffled(height: int, width: int, generator: np.random.Generator, reach: int, rounds: int) -> np.ndarray:
    """For every pixel the one that it shows, int64 [h * w], both counted row by row.

    A round visits the pixels from the last to the first, but those at the border; each takes the colour that a random pixel
    up to `reach` up or left, or less than `reach` down or right, has by then. The authors write an exchange; but it assigns
    through views of a NumPy array, which changes the first pixel only, and so are the published pictures.
    """
    sources = np.arange(height * width)
    for _ in range(rounds):
        sources = sources[_round(height, width, generator, reach)]
    return sources


def _round(height: int, width: int, generator: np.random.Generator, reach: int) -> np.ndarray:
    pixels = np.arange(height * width)
    grid = pixels.reshape(height, width)
    inner = grid[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    down, across = generator.integers(-reach, reach, (2, *inner.shape))
    shown = pixels.copy()
    shown[inner] += down * width + across
    is_inner = np.zeros(pixels.shape, bool)
    is_inner[inner] = True
    # A pixel that was visited before shows what it took: follow it there. Each turn doubles the way that is followed.
    goes_on = (shown > pixels) & is_inner[shown]
    while goes_on.any():
        shown, goes_on = np.where(goes_on, shown[shown], shown), goes_on & goes_on[shown]
    return shown
