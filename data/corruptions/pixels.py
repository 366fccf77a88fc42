"""Levels, uint8 0 to 255, and pixels, float32 0 to 1, in which the corruptions compute."""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def to_pixels(levels: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in 0 to 1, of the same shape; `to_levels` gives the same levels back."""
    return levels.astype(np.float32) / np.float32(255)


def to_levels(pixels: np.ndarray) -> np.ndarray:
    """Floats -> the nearest levels, uint8, cut off at 0 and 255. (The authors round down.)"""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Pixels [h, w, c], c of 1 or 3 -> their grey (ITU-R BT.601), [h, w, 1]."""
    return pixels if pixels.shape[2] == 1 else (pixels * _LUMA).sum(axis=2, keepdims=True)
