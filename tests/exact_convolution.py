"""A convolution of 3x3 windows in float64, written out."""

from __future__ import annotations

import numpy as np


def exact(padding, images, kernel, gradient) -> list[np.ndarray]:
    """The outputs and both gradients in float64, an offset of the window at a time."""
    padded = np.pad(images, ((0, 0), *padding, (0, 0)))
    height, width = gradient.shape[1:3]
    outputs, of_padded, of_kernel = np.zeros(gradient.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for y, x in np.ndindex(3, 3):
        place = np.s_[:, y : y + height, x : x + width]
        outputs += padded[place] @ kernel[y, x]
        of_padded[place] += gradient @ kernel[y, x].T
        of_kernel[y, x] = np.tensordot(padded[place], gradient, axes=[(0, 1, 2)] * 2)
    (top, _), (left, _) = padding
    return [outputs, of_padded[:, top : top + images.shape[1], left : left + images.shape[2]], of_kernel]
