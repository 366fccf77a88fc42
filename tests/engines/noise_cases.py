"""What --noise_scale measures, by hand in NumPy, and cases of it that engine_cases.py runs only where they are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from case_setup import BACKEND, BATCH, CLASSES, DEVICES, EXAMPLES, engine

from convoy.data.pipeline import BatchSharding, training_stream


def by_hand(built: Any, first_position: int = 0) -> np.ndarray:
    """(squared gradient, variance) that explain the squared norms of the gradient of a batch and of its parts.

    Args:
      built: an engine of the model `plain`, with the weights that the batch is differentiated at.
      first_position: of the batch.
    """
    weights = [value for name, value in built.state().items() if name.startswith("model/")]
    stream = training_stream(EXAMPLES, BatchSharding(BATCH), built.config.data, built.config.seed, first_position)
    batch = next(iter(stream))
    images, labels = batch.images.numpy().reshape(BATCH, -1) / 255, batch.labels.numpy()[:, 0]
    sizes = [size for size in built.runtime.batch_sharding.microbatch_sizes for _ in range(DEVICES)]
    borders = np.cumsum(sizes)[:-1]
    pairs = zip(np.split(images, borders), np.split(labels, borders), strict=True)
    parts = [gradient(weights, *pair) for pair in pairs]
    whole, squares = (sum(parts) ** 2).sum(), sum((part**2).sum() for part in parts)
    overlap = (np.array(sizes) ** 2).sum() / BATCH**2
    if len(sizes) == 1:
        return np.zeros(2)  # which one part does not tell
    return np.linalg.solve([[1, 1 / BATCH], [overlap, 1 / BATCH]], [whole, squares])


def gradient(weights: Sequence[np.ndarray], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of a part's share of the batch's mean cross-entropy, as one vector: two dense layers, tanh between."""
    kernel, bias, last_kernel, last_bias = (np.asarray(weight, np.float64) for weight in weights)
    hidden = np.tanh(images @ kernel + bias)
    logits = hidden @ last_kernel + last_bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    errors = (odds / odds.sum(1, keepdims=True) - np.eye(CLASSES)[labels]) / BATCH
    slopes = errors @ last_kernel.T * (1 - hidden**2)
    pieces = (images.T @ slopes, slopes.sum(0), hidden.T @ errors, errors.sum(0))
    return np.concatenate([piece.ravel() for piece in pieces])


def noise(parts: int, **values: object) -> dict[str, np.ndarray]:
    """[steps, 2] of squared gradient and variance, `found` and `expected`, of a batch in so many parts."""
    built = engine("plain", noise_scale=True, accumulate=max(1, parts // DEVICES), clip_norm=0.01, **values)
    found, expected = [], []
    for step in range(3):
        expected.append(by_hand(built, step * BATCH))
        found.append(np.concatenate(built.train(1).noise))
    return {"found": np.array(found), "expected": np.array(expected)}


# Case -> the most devices it says anything new on.
LONG = {
    "noise_of_halves": (lambda: noise(2), 2),
    "noise_of_quarters": (lambda: noise(4), 4),
    "noise_in_float16": (lambda: noise(4, precision="mixed_float16"), 2),
    "noise_with_xla": (lambda: noise(4, xla="on" if BACKEND == "tensorflow" and DEVICES == 1 else "auto"), 2),
}
