"""--model=keras:NAME: a classifier of keras.applications, without weights, in the outline of a network for fine-tuning."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import layers

from convoy.trainer.models.outline import assemble, check_shape
from convoy.trainer.models.zoo.families import PIXELS
from convoy.trainer.models.zoo.keras_names import EFFICIENTNET, NETWORKS


class Backbone(NamedTuple):
    """A network without its preprocessing and its last layer.

    Attributes:
      model: preprocessed images -> features [n, d]; its layers have Keras' own names.
      dropout: of the features, before the last layer.
      last: that layer: Dense, or a convolution of one pixel.
    """

    model: keras.Model
    dropout: float
    last: layers.Layer


def keras_network(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Logits [n, num_classes] of images [n, h, w, 1 or 3] in [0, 1]; CannotRun for images that the network cannot see.

    Nothing is downloaded. It is built for the size of these images: some networks pad otherwise for an unknown one.
    """
    family = NETWORKS[name].family
    check_shape(f"keras:{name}", image_shape, family.min_side)
    backbone = take_backbone(name, image_shape)
    return assemble(name, image_shape, num_classes, PIXELS[family.pixels], backbone.model, backbone.dropout)


def take_backbone(name: str, image_shape: tuple[int, int, int], classes: int = 1) -> Backbone:
    """Cuts a classifier of keras.applications before its last layer, which has `classes` outputs."""
    family = NETWORKS[name].family
    # EfficientNet of the first generation cannot be told to leave its preprocessing out.
    options = {"include_preprocessing": False} if family.inside and family is not EFFICIENTNET else {}
    shape = (*image_shape[:2], 3)
    build = getattr(keras.applications, name)
    network = build(weights=None, input_shape=shape, classes=classes, classifier_activation=None, **options)
    start = network.get_layer("stem_conv_pad").input if family is EFFICIENTNET else network.input
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    features, dropout = last.input, 0.0
    before = features._keras_history.operation
    if isinstance(before, layers.Dropout):
        features, dropout = before.input, before.rate
    if len(features.shape) == 4:  # one pixel
        features = layers.Flatten(name="features")(features)
    return Backbone(keras.Model(start, features, name="backbone"), dropout, last)
