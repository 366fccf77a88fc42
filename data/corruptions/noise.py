"""Noise, drawn for every value of every channel by itself (section 4.1 of Hendrycks and Dietterich 2019).

Pixels are float32 [h, w, c] in 0 to 1.
"""

from __future__ import annotations

import numpy as np


def gaussian_noise(pixels: np.ndarray, generator: np.random.Generator, sigma: float) -> np.ndarray:
    """Pixels plus normal noise; float32 [h, w, c], below 0 and above 1 too."""
    return pixels + np.float32(sigma) * generator.standard_normal(pixels.shape, np.float32)


def shot_noise(pixels: np.ndarray, generator: np.random.Generator, photons: float) -> np.ndarray:
    """Poisson counts with a mean of pixel * photons, divided by photons; float64 [h, w, c], above 1 too."""
    return generator.poisson(pixels * photons) / photons


def impulse_noise(pixels: np.ndarray, generator: np.random.Generator, share: float) -> np.ndarray:
    """Pixels of which this share, in the mean, became 0 or 1, either equally often; float32 [h, w, c] in 0 to 1."""
    uniform = generator.random(pixels.shape, np.float32)
    return np.where(uniform < share, uniform < share / 2, pixels)
