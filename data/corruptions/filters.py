"""Filters that several corruptions share: a trail along a line, a disc, the enlarged middle of a picture."""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import ndimage


def trail(pixels: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Pixels [h, w, c] -> the mean over 2 * radius + 1 places on a line that starts at each pixel; float32 [h, w, c].

    Weights fall as half a normal density. Places are whole pixels and beyond the border those at the border, as ImageMagick's
    motion blur has them, which the authors call. Rows count downwards, so that an angle of 90 degrees looks down.
    """
    height, width, _ = pixels.shape
    steps = np.arange(2 * radius + 1)
    weights = normal_weights(steps, sigma).astype(np.float32)
    angle = math.radians(degrees)
    # ImageMagick rounds a half down.
    down = np.ceil(steps * math.sin(angle) - 0.5).astype(int).tolist()
    across = np.ceil(steps * math.cos(angle) - 0.5).astype(int).tolist()
    reach = 2 * radius
    padded = pixels[_clipped(height, reach)][:, _clipped(width, reach)]
    total = np.zeros_like(pixels)
    for weight, row, column in zip(weights, down, across, strict=True):
        top, left = reach + row, reach + column
        total += weight * padded[top : top + height, left : left + width]
    return total


def disc(pixels: np.ndarray, radius: float, sigma: float) -> np.ndarray:
    """Pixels [h, w, c] -> the mean over a disc around each, mirrored at the border; float64 [h, w, c] in the same range.

    The disc has the pixels up to `radius` away. A normal density of 3 taps, 5 for a radius above 8, smooths its edge. Rows of
    the disc are differences of running sums: a disc costs as much as its height.
    """
    height, width, channels = pixels.shape
    taps, reach = 1 if radius <= 8 else 2, int(radius)
    edge = normal_weights(np.arange(-taps, taps + 1), sigma)
    border = taps + reach
    smooth = np.pad(pixels.astype(np.float64), ((border, border), (border, border), (0, 0)), mode="reflect")
    for axis in (0, 1):
        smooth = ndimage.correlate1d(smooth, edge, axis)
    smooth = smooth[taps:-taps, taps:-taps]
    sums = np.zeros((smooth.shape[0], smooth.shape[1] + 1, channels))
    np.cumsum(smooth, axis=1, out=sums[:, 1:])
    total, count = np.zeros(pixels.shape), 0
    for row in range(-reach, reach + 1):
        half = int(math.sqrt(radius**2 - row**2))
        line = sums[reach + row : reach + row + height]
        total += line[:, reach + half + 1 : reach + half + 1 + width]
        total -= line[:, reach - half : reach - half + width]
        count += 2 * half + 1
    return total / count


def enlarged(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Pixels [h, w, c] -> their middle, enlarged by a factor of at least 1, interpolated linearly; float32 [h, w, c]."""
    for axis in (0, 1):
        low, high, share = _enlarged_places(pixels.shape[axis], factor)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        first = pixels.take(low, axis)
        pixels = first + share.reshape(shape) * (pixels.take(high, axis) - first)
    return pixels


def normal_weights(places: np.ndarray, sigma: float) -> np.ndarray:
    """The normal density at places, scaled to a sum of 1; float64 of the same shape."""
    density = np.exp(-0.5 * (places / sigma) ** 2)
    return density / density.sum()


def _clipped(size: int, reach: int) -> np.ndarray:
    return np.clip(np.arange(-reach, size + reach), 0, size - 1)


@functools.lru_cache(maxsize=256)
def _enlarged_places(size: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a side: the two pixels between which each pixel of the result lies, and its share of the second.

    The first and last pixel of the middle become those of the enlarged side, of which the middle is shown.
    """
    middle = math.ceil(size / factor)
    longer = round(middle * factor)
    shown = (longer - size) // 2 + np.arange(size)
    places = (size - middle) // 2 + shown * ((middle - 1) / max(longer - 1, 1))
    low = np.minimum(places.astype(int), size - 1)
    return low, np.minimum(low + 1, size - 1), (places - low).astype(np.float32)
