"""Where a classifier of a library is cut: before its last layer, and before the dropout in front of that."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import layers


class Backbone(NamedTuple):
    """A network without its last layer.

    Attributes:
      model: preprocessed images -> features [n, d], named "backbone"; its layers have the library's own names.
      dropout: of the features, before the last layer.
      last: that layer: Dense, or a convolution of one pixel.
    """

    model: keras.Model
    dropout: float
    last: layers.Layer


def cut(network: keras.Model, start: Any = None) -> Backbone:
    """Cuts a classifier.

    Args:
      network: images -> classes.
      start: the tensor that the backbone begins with; None for the network's input.
    """
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    features, dropout = last.input, 0.0
    if isinstance(last, keras.Sequential):
        *before, last = last.layers
        for layer in before:
            features = layer(features)
    operation = features._keras_history.operation
    if isinstance(operation, layers.Dropout):
        features, dropout = operation.input, operation.rate
    if len(features.shape) == 4:  # one pixel
        features = layers.Flatten(name="features")(features)
    return Backbone(keras.Model(network.input if start is None else start, features, name="backbone"), dropout, last)
