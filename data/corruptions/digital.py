"""Digital: contrast, too few pixels, JPEG (section 4.1 of Hendrycks and Dietterich 2019); elastic.py has the fourth.

Pixels are float32 [h, w, c] in 0 to 1, c of 1 or 3. Nothing is drawn.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from convoy.data.corruptions.pixels import to_levels, to_pixels


def contrast(pixels: np.ndarray, generator: np.random.Generator, factor: float) -> np.ndarray:
    """Differences to each channel's mean, times a factor; float64 [h, w, c] in 0 to 1."""
    means = pixels.mean(axis=(0, 1), keepdims=True, dtype=np.float64)
    return (pixels - means) * factor + means


def pixelate(pixels: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """The picture with this share of each side, rounded down, and back, both by Pillow's box; float32 [h, w, c] in 0 to 1.

    Where the sides differ, each is scaled; the authors have squares.
    """
    height, width, _ = pixels.shape
    small = (max(int(width * share), 1), max(int(height * share), 1))
    box = Image.Resampling.BOX
    return _from_pillow(_to_pillow(pixels).resize(small, box).resize((width, height), box))


def jpeg_compression(pixels: np.ndarray, generator: np.random.Generator, quality: int) -> np.ndarray:
    """The picture as Pillow's JPEG of this quality, colours at half of the resolution; float32 [h, w, c] in 0 to 1.

    Pictures with a single channel become grey JPEGs.
    """
    file = io.BytesIO()
    _to_pillow(pixels).save(file, "JPEG", quality=quality)
    return _from_pillow(Image.open(file, formats=["JPEG"]))


def _to_pillow(pixels: np.ndarray) -> Image.Image:
    levels = to_levels(pixels)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _from_pillow(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image)
    return to_pixels(levels if levels.ndim == 3 else levels[..., None])
