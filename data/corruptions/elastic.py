"""Elastic distortion (Simard et al. 2003), after a random affine map."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def elastic_transform(
    pixels: np.ndarray, generator: np.random.Generator, magnitude: float, sigma: float, shift: float
) -> np.ndarray:
    """Pixels float32 [h, w, c] in 0 to 1, stretched and distorted; the same shape and range (section 4.1, digital).

    Three points of the picture move by up to `shift`, and an affine map with them. Then each pixel shows a
    place near it: its distance, down and across, is uniform noise, smoothed by a normal density (sigma), times `magnitude`.
    All three numbers are shares of the smaller side; the authors write pixels of squares of 224 and 32. Both steps
    interpolate linearly, as theirs do by OpenCV and SciPy.
    """
    height, width, _ = pixels.shape
    side = min(height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    stretch = _affine(height, width, generator, shift * side)
    from_row, from_column = (row * rows + column * columns + offset for row, column, offset in stretch)
    stretched = _sampled(pixels, from_row, from_column, "mirror")
    if not magnitude:
        return stretched
    noise = generator.uniform(-1, 1, (2, height, width))
    across, down = ndimage.gaussian_filter(noise, (0, sigma * side, sigma * side), mode="reflect", truncate=3)
    return _sampled(stretched, rows + magnitude * side * down, columns + magnitude * side * across, "reflect")


def _affine(height: int, width: int, generator: np.random.Generator, shift: float) -> np.ndarray:
    """From a pixel of the result to its place in the picture: factors of row and column and an offset, for row and column."""
    reach = max(min(height, width) // 3, 1)
    points = np.array([height // 2, width // 2]) + reach * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = points + generator.uniform(-shift, shift, points.shape)
    return np.linalg.solve(np.column_stack([moved, np.ones(3)]), points).T


def _sampled(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """The pixels at these places, interpolated linearly; `mode` says what is beyond the border."""
    sampled = np.empty_like(pixels)
    for channel in range(pixels.shape[2]):
        plane = pixels[..., channel]
        ndimage.map_coordinates(plane, (rows, columns), output=sampled[..., channel], order=1, mode=mode)
    return sampled
