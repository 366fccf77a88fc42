"""Blur: out of focus, through glass, in motion (section 4.1 of Hendrycks and Dietterich 2019).

Pixels are float32 [h, w, c] in 0 to 1.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from convoy.data.corruptions.filters import disc, enlarged, trail
from convoy.data.corruptions.glass import shuffled


def defocus_blur(pixels: np.ndarray, generator: np.random.Generator, radius: float, sigma: float) -> np.ndarray:
    """The mean over a disc with a smoothed edge; float64 [h, w, c] in 0 to 1. Draws nothing.

    The authors smooth the edge in a square that their largest discs touch, mirrored at its border: for a radius of 8 and 10
    their kernel's sum is 1.013 and 1.011, and their pictures are as much brighter. Ours is 1.
    """
    return disc(pixels, radius, sigma)


def glass_blur(pixels: np.ndarray, generator: np.random.Generator, sigma: float, reach: int, rounds: int) -> np.ndarray:
    """Pixels smoothed, shuffled with their neighbours in some rounds, and smoothed again; float32 [h, w, c] in 0 to 1.

    convoy.data.corruptions.glass says how they are shuffled. The authors round to levels before that; we do not.
    """
    height, width, channels = pixels.shape
    sources = shuffled(height, width, generator, reach, rounds)
    smooth = _smoothed(pixels, sigma).reshape(-1, channels)
    return _smoothed(smooth[sources].reshape(pixels.shape), sigma)


def motion_blur(pixels: np.ndarray, generator: np.random.Generator, radius: int, sigma: float) -> np.ndarray:
    """A trail at an angle from -45 to 45 degrees; float32 [h, w, c] in 0 to 1.

    The authors call ImageMagick. Ours is the same sum in NumPy, without its rounding to levels.
    """
    return trail(pixels, radius, sigma, generator.uniform(-45, 45))


def zoom_blur(pixels: np.ndarray, generator: np.random.Generator, end: float, step: float) -> np.ndarray:
    """The mean of the picture and its enlargements by 1, 1 + step and so on to `end`; float32 [h, w, c] in 0 to 1.

    Draws nothing. NumPy's arange decides whether `end` is among the factors, as it did for the authors. They enlarge squares;
    ours does both sides, each about its own middle.
    """
    factors = np.arange(1, end, step).tolist()
    total = pixels.copy()
    for factor in factors:
        total += enlarged(pixels, factor)
    return total / np.float32(len(factors) + 1)


def _smoothed(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest")
