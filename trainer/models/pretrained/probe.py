"""Whether a network computes, with the weights that it got, what these weights were trained in.

BatchNormalization keeps the mean and variance of its inputs in training. They are a fingerprint of everything before it: images
of noise give channels other variances than photographs, but in about the same order. Tensors in each other's place, kernels
with exchanged axes and networks of another kind are seen by that, although all shapes fit.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from convoy import exits

_IMAGES = 2
_MIN_CHANNELS, _MIN_LAYERS = 16, 8  # fewer say nothing
_ALIKE = 0.25  # correlation of what is seen with what was, below which a layer's inputs are others
# Of EfficientNet-Lite0's layers 2 % with the right weights, 12 % with scales and offsets exchanged, 33 to 84 % with kernels in
# each other's place or with exchanged axes.
_NOTED, _REFUSED = 0.1, 0.3


def check(model: keras.Model, place: str, name: str) -> list[str]:
    """Notes on a network that may have got the wrong weights.

    Raises:
      exits.CannotRun: it computes something else than its weights were trained in, or nothing.
    """
    seen = _look(model)
    if seen is None:
        return []
    layers, inputs, features = seen
    if not np.isfinite(features).all() or np.ptp(features, axis=0).max() == 0:
        raise exits.CannotRun(
            f"with the weights of {place} --model={name} computes features that are not finite or the same for all images; they"
            " are of another network."
        )
    scores = [
        _likeness(layer, tensor)
        for layer, tensor in zip(layers, inputs, strict=True)
        if tensor.shape[-1] >= _MIN_CHANNELS and np.ptp(keras.ops.convert_to_numpy(layer.moving_variance)) > 0
    ]
    if len(scores) < _MIN_LAYERS:
        return []
    other = sum(score < _ALIKE for score in scores)
    what = (
        f"with the weights of {place}, {other} of {len(scores)} BatchNormalization layers of --model={name} see other inputs"
        " than these weights were trained with"
    )
    if other >= _REFUSED * len(scores):
        raise exits.CannotRun(f"{what}; they are of another network, or tensors stand in each other's place.")
    return [f"{what}. They may be of another network, or of other images than photographs."] * (
        other >= _NOTED * len(scores)
    )


def _look(model: keras.Model) -> tuple[list[Any], list[np.ndarray], np.ndarray] | None:
    """BatchNormalization layers, what each gets to see, and the features; None for a network that is no graph."""
    layers = {layer.name: layer for layer in model.layers}
    backbone = _graph(layers.get("backbone"))
    if backbone is None:
        return None
    normal = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    part = keras.Model(backbone.inputs[0], [*(layer.input for layer in normal), backbone.outputs[0]])
    images = _images(model.input_shape[1:])
    pixels = layers["preprocess"](images) if "preprocess" in layers else images
    if keras.backend.backend() == "jax":  # which would compile each operation by itself
        outputs = part.predict_on_batch(keras.ops.convert_to_numpy(pixels))
    else:
        outputs = part(pixels, training=False)
    tensors = [keras.ops.convert_to_numpy(output).astype(np.float64) for output in keras.tree.flatten(outputs)]
    return normal, tensors[:-1], tensors[-1].reshape(_IMAGES, -1)


def _graph(backbone: Any) -> Any:
    """The functional model that sees the pixels: the backbone, or the one that is its first layer; None where there is none."""
    if not hasattr(backbone, "_nodes_by_depth") or len(backbone.inputs) != 1:
        return None
    first = backbone.layers[1] if len(backbone.layers) > 1 else None
    return _graph(first) if isinstance(first, keras.Model) else backbone


def _images(shape: tuple[int, int, int]) -> np.ndarray:
    """Images in [0, 1], float32 [n, h, w, c]: noise of all scales, mostly grey, as large in photographs as small."""
    height, width, channels = shape
    generator, images, scale = np.random.default_rng(0), np.zeros((_IMAGES, *shape)), 1
    while scale < max(height, width):
        coarse = generator.standard_normal((_IMAGES, -(-height // scale), -(-width // scale), channels)) * scale
        coarse = 0.3 * coarse + 0.7 * coarse.mean(axis=-1, keepdims=True)
        images += coarse.repeat(scale, axis=1).repeat(scale, axis=2)[:, :height, :width]
        scale *= 2
    images *= 0.25 / np.maximum(images.std(axis=(1, 2, 3), keepdims=True), 1e-9)
    return np.clip(0.45 + images, 0, 1).astype(np.float32)


def _likeness(layer: Any, inputs: np.ndarray) -> float:
    """How much the channels' variances, or their means, are in the order in which they were in training: up to 1."""
    mean, variance = (
        keras.ops.convert_to_numpy(v).astype(np.float64) for v in (layer.moving_mean, layer.moving_variance)
    )
    axes = tuple(range(inputs.ndim - 1))
    now = inputs.var(axis=axes)
    alive = (variance > 1e-6 * variance.max()) & (now > 0)  # a channel without variance in training carries nothing
    return max(
        _correlation(np.log(now[alive]), np.log(variance[alive])), _correlation(inputs.mean(axis=axes), mean), -1.0
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean() if first.size else first, second - second.mean() if second.size else second
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else -1.0
