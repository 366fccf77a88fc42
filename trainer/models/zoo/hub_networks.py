"""--model=hub:NAME: a classifier of KerasHub, without weights, in the outline of a network for fine-tuning."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import keras

from convoy import exits
from convoy.trainer.models.outline import assemble, check_shape
from convoy.trainer.models.zoo.backbone import Backbone, cut
from convoy.trainer.models.zoo.families import PIXELS, Network
from convoy.trainer.models.zoo.hub_names import NAMES, PRESET_PIXELS


def hub_network(name: str, image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Logits [n, num_classes] of images [n, h, w, 1 or 3] in [0, 1]. Nothing is downloaded.

    Raises:
      exits.CannotRun: KerasHub is not installed, or the network cannot see these images.
    """
    family = NAMES[name].family
    check_shape(f"hub:{name}", image_shape, family.min_side)
    backbone = take_backbone(name, image_shape)
    pixels = PIXELS[PRESET_PIXELS.get(name, family.pixels)]
    return assemble(name, image_shape, num_classes, pixels, backbone.model, backbone.dropout)


def take_backbone(name: str, image_shape: tuple[int, int, int], classes: int = 1) -> Backbone:
    """Cuts a classifier of KerasHub before its last layer, which has `classes` outputs."""
    return cut(build_classifier(name, image_shape, classes))


def build_classifier(name: str, image_shape: tuple[int, int, int], classes: int) -> Any:
    """KerasHub's own classifier of images [n, h, w, 3], without weights and without preprocessing."""
    models = _keras_hub(name).models
    network = NAMES[name]
    kind = network.family.classifier
    options = {"image_shape": (*image_shape[:2], 3), **_shape(network)}
    try:
        backbone = getattr(models, f"{kind}Backbone")(**options)
        build = getattr(models, f"{kind}ImageClassifier")
        return build(backbone=backbone, num_classes=classes, preprocessor=None, **network.head)
    except ValueError as error:
        raise exits.CannotRun(
            f"--model=hub:{name} cannot be built for images of {image_shape[1]}x{image_shape[0]}; KerasHub says:"
            f" {str(error).splitlines()[0]}"
        ) from error


def _shape(network: Network) -> dict[str, Any]:
    """The arguments of a backbone of KerasHub."""
    if not isinstance(network.architecture, str):
        return dict(network.architecture)
    # KerasHub knows how timm's networks are shaped.
    converter = importlib.import_module(f"keras_hub.src.utils.timm.convert_{network.family.classifier.lower()}")
    config = {"architecture": network.architecture, "pretrained_cfg": {"tag": "ssld"}}
    return converter.convert_backbone_config(config)


def _keras_hub(name: str) -> Any:
    if importlib.util.find_spec("keras_hub") is None:
        raise exits.CannotRun(
            f"--model=hub:{name} needs KerasHub, which is not installed; pip install 'keras-convoy[hub]', or take a network of"
            " keras.applications, which `convoy models` lists."
        )
    return importlib.import_module("keras_hub")
