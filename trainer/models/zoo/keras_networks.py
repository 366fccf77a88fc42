"""--model=keras:NAME: a classifier of keras.applications, without weights, in the outline of a network for fine-tuning."""

from __future__ import annotations

import keras

from convoy.trainer.models.outline import assemble, check_shape
from convoy.trainer.models.zoo.backbone import Backbone, cut
from convoy.trainer.models.zoo.families import PIXELS
from convoy.trainer.models.zoo.keras_names import EFFICIENTNET, NETWORKS


def keras_network(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Logits [n, num_classes] of images [n, h, w, 1 or 3] in [0, 1]; CannotRun for images that the network cannot see.

    Nothing is downloaded. It is built for the size of these images: some networks pad otherwise for an unknown one.
    """
    family = NETWORKS[name].family
    check_shape(f"keras:{name}", image_shape, family.min_side)
    backbone = take_backbone(name, image_shape)
    return assemble(name, image_shape, num_classes, PIXELS[family.pixels], backbone.model, backbone.dropout)


def take_backbone(name: str, image_shape: tuple[int, int, int], classes: int = 1) -> Backbone:
    """Cuts a classifier of keras.applications after its preprocessing and before its last layer, of `classes` outputs."""
    family = NETWORKS[name].family
    # EfficientNet of the first generation cannot be told to leave its preprocessing out.
    uncut = family is EFFICIENTNET
    options = {"include_preprocessing": False} if family.inside and not uncut else {}
    network = getattr(keras.applications, name)(
        weights=None, input_shape=(*image_shape[:2], 3), classes=classes, classifier_activation=None, **options
    )
    return cut(network, network.get_layer("stem_conv_pad").input if uncut else None)
