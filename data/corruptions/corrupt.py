"""One corruption of a batch, each example by itself."""

from __future__ import annotations

import numpy as np

from convoy import exits
from convoy.data.corruptions.constants import constants
from convoy.data.corruptions.names import CORRUPTIONS, SEVERITIES
from convoy.data.corruptions.pixels import to_levels, to_pixels
from convoy.data.keys import key

CHANNELS = (1, 3)


def corrupt(images: np.ndarray, indices: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Images uint8 [n, h, w, c], c of 1 or 3 -> uint8 [n, h, w, c], corrupted.

    Each result is a function of (seed, name, severity, the example's index, its pixels) alone: batches and their order change
    nothing. Pictures with a smaller side above 64 pixels take ImageNet-C's constants, smaller ones CIFAR-10-C's.

    Args:
      indices: of the examples in their split, int64 [n], from 0.
      name: of a row of CORRUPTIONS.
      severity: 1 to 5.
    """
    _, height, width, channels = images.shape
    if channels not in CHANNELS:
        raise exits.CannotRun(f"Images of {channels} channels cannot be corrupted; use images of 1 or 3.")
    if severity not in SEVERITIES:
        raise exits.CannotRun(f"There is no severity {severity}; use 1 to {SEVERITIES[-1]}.")
    function = CORRUPTIONS.load(name)
    numbers = constants(name, severity, min(height, width))
    stream = key(seed, "corruption", name, severity)
    corrupted = np.empty_like(images)
    for row, index in enumerate(indices.tolist()):
        # Philox is counter-based: an example's numbers are those from its own counter on, 2**128 blocks of them.
        generator = np.random.Generator(np.random.Philox(key=stream, counter=index << 128))
        corrupted[row] = to_levels(function(to_pixels(images[row]), generator, *numbers))
    return corrupted
