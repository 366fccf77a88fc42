"""Notes networks that scale images themselves, as if pixels went from 0 to 255: Convoy's images go from 0 to 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

NOTE = (
    "images come as numbers from 0 to 1, and {model}'s layer {path} {does}, as for numbers from 0 to 255, so that all images"
    " look nearly alike. Multiply by 255 before it, with keras.layers.Rescaling(255.0), or build the network with"
    " include_preprocessing=False if it has that."
)
# No network means to bring its numbers into a range narrower than this; 1/255, 1/127.5 and 1 / 57 are the usual factors.
NARROW = 0.02
FAR = 4.0  # a mean beyond this many times the largest number was meant for other numbers
# Layers and operations of Keras that move pixels without changing their numbers.
# fmt: off
_MOVING = frozenset({
    "AveragePooling2D", "BroadcastTo", "Cast", "CenterCrop", "Concatenate", "Cropping2D", "Flip", "GetItem",
    "Identity", "MaxPooling2D", "Permute", "RandomCrop", "RandomFlip", "RandomRotation", "RandomShear",
    "RandomTranslation", "RandomZoom", "Repeat", "Reshape", "Resize", "Resizing", "Stack", "Tile", "Transpose",
    "UpSampling2D", "ZeroPadding2D",
})
# fmt: on


class Span(NamedTuple):
    """The smallest and the largest number of a tensor."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


class _ScalesTwice(Exception):
    """A layer scales numbers that are small already: its path, and what it does."""


def note(model: keras.Model, name: str) -> list[str]:
    """A note on a model whose first layers, those before any weights, scale images from 0 to 1 once more; else nothing.

    Only models that Keras knows as a graph (functional, Sequential) can be followed from their input.
    """
    try:
        _follow(model, Span(0.0, 1.0))
    except _ScalesTwice as error:
        path, does = error.args
        return [NOTE.format(model=name, path=path, does=does)]
    return []


def _follow(model: Any, images: Span) -> Span | None:
    """The span of a model's output; None if an operation between input and output cannot be followed."""
    graph = getattr(model, "_functional", None) or model  # a Sequential has one inside
    if not hasattr(graph, "_nodes_by_depth"):
        return None
    spans = {id(tensor): images for tensor in graph.inputs}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            before = [spans.get(id(tensor)) for tensor in node.input_tensors]
            known = [span for span in before if span]
            if node.is_input or not known or len(known) < len(before):
                continue
            union = Span(min(span.low for span in known), max(span.high for span in known))
            if after := _through(node.operation, union):
                spans |= {id(tensor): after for tensor in node.outputs}
    return spans.get(id(graph.outputs[0]))


def _through(operation: Any, numbers: Span) -> Span | None:
    """The span after an operation; None if it is unknown."""
    if isinstance(operation, keras.layers.Rescaling):
        scale, offset = np.asarray(operation.scale, float), np.asarray(operation.offset, float)
        does = f"rescales by {np.abs(scale).max():.2g}"
    elif isinstance(operation, keras.layers.Normalization):
        mean, variance = (keras.ops.convert_to_numpy(v).astype(float) for v in (operation.mean, operation.variance))
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
        scale, offset = (deviation, mean) if operation.invert else (1 / deviation, -mean / deviation)
        does = f"subtracts {mean.mean():.3g} and divides by {deviation.mean():.3g}"
        if not operation.invert and mean.min() > FAR * max(abs(numbers.low), abs(numbers.high)):
            raise _ScalesTwice(operation.path, does)
    elif type(operation).__name__ in _MOVING:
        return numbers
    else:
        return _follow(operation, numbers)
    if numbers.width * np.abs(scale).max() < NARROW:
        raise _ScalesTwice(operation.path, does)
    ends = [number * scale + offset for number in numbers]
    return Span(min(end.min() for end in ends), max(end.max() for end in ends))
