"""Weather: snow, fog, bright light (section 4.1 of Hendrycks and Dietterich 2019). Frost is left out: it needs photographs.

Pixels are float32 [h, w, c] in 0 to 1, c of 1 or 3.
"""

from __future__ import annotations

import numpy as np

from convoy.data.corruptions.filters import enlarged, trail
from convoy.data.corruptions.fractal import cloud
from convoy.data.corruptions.pixels import grey


def snow(
    pixels: np.ndarray,
    generator: np.random.Generator,
    mean: float,
    sigma: float,
    zoom: float,
    threshold: float,
    radius: int,
    trail_sigma: float,
    kept: float,
) -> np.ndarray:
    """Flakes on a whitened picture; float32 [h, w, c], above 1 too.

    Flakes are normal noise, enlarged by `zoom`, without what is below the threshold, with trails upwards; they are added
    upright and upside down. The rest of `kept` is whitened: at least half white plus one and a half of the grey. The
    authors round the layer of flakes to levels and blur it by ImageMagick; ours stays in floats.
    """
    height, width, _ = pixels.shape
    flakes = enlarged(mean + sigma * generator.standard_normal((height, width, 1), np.float32), zoom)
    flakes = np.clip(np.where(flakes < threshold, np.float32(0), flakes), 0, 1)
    flakes = trail(flakes, radius, trail_sigma, generator.uniform(-135, -45))
    whitened = kept * pixels + (1 - kept) * np.maximum(pixels, 1.5 * grey(pixels) + 0.5)
    return whitened + flakes + flakes[::-1, ::-1]


def fog(pixels: np.ndarray, generator: np.random.Generator, amount: float, decay: float) -> np.ndarray:
    """Pixels plus a cloud of 0 to `amount`, scaled so that the brightest stays as it is; float32 [h, w, c] in 0 to 1.

    A black picture stays black, by this scale. The authors' cloud is of 256 or 32 pixels; ours of the power of two that covers
    the picture.
    """
    height, width, _ = pixels.shape
    brightest = pixels.max()
    return (pixels + amount * cloud(height, width, generator, decay)[..., None]) * (brightest / (brightest + amount))


def brightness(pixels: np.ndarray, generator: np.random.Generator, amount: float) -> np.ndarray:
    """Pixels whose value in HSV is `amount` higher, 1 at most; float32 [h, w, c] in 0 to 1. Draws nothing.

    Hue and saturation stay where all channels are scaled alike, so no colour is converted. Black has none and becomes grey; so
    does every pixel of a picture with a single channel.
    """
    value = pixels.max(axis=2, keepdims=True)
    raised = np.minimum(value + np.float32(amount), 1)
    return np.where(value > 0, pixels * (raised / np.where(value > 0, value, 1)), raised)
