"""Weights in timm's form for a network of KerasHub, whose own converters know eight families."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from convoy import exits
from convoy.outside import printable
from convoy.trainer.models.pretrained.hdf5 import Layer
from convoy.trainer.models.pretrained.owners import owners
from convoy.trainer.models.pretrained.sources import Source
from convoy.trainer.models.zoo.hub_names import NAMES
from convoy.trainer.models.zoo.hub_networks import build_classifier

CONVERTED = ("cspnet", "densenet", "efficientnet", "hgnetv2", "mobilenet", "mobilenetv5", "resnet", "vgg")


class _Tensors:
    """What KerasHub's converters read from; they get no file."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self._tensors = tensors
        self.taken = set[str]()

    def get_tensor(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        self.taken.add(name)
        return tensor

    def port_weight(
        self,
        keras_variable: Any,
        hf_weight_key: str,
        hook_fn: Callable[[np.ndarray, list[int]], np.ndarray] | None = None,
    ) -> None:
        tensor = self.get_tensor(hf_weight_key)
        keras_variable.assign(hook_fn(tensor, list(keras_variable.shape)) if hook_fn else tensor)


def layers(
    source: Source, tensors: Mapping[str, np.ndarray], name: str, image_shape: tuple[int, int, int]
) -> tuple[list[Layer], list[str]]:
    """The layers of KerasHub's classifier with the weights of a timm folder, and the tensors that none of them takes.

    Args:
      source: a timm folder.
      tensors: its tensors.
      name: --model=hub:NAME.
      image_shape: that the network is built for.

    Raises:
      exits.CannotRun: KerasHub has no converter for it, or the tensors are of another network.
    """
    short = name.partition(":")[2]
    family = NAMES[short].family.classifier.lower()
    if family not in CONVERTED:
        raise exits.CannotRun(
            f"--model={name} cannot take weights in timm's form: KerasHub converts {', '.join(CONVERTED)}, and this is"
            f" {family}; take a preset folder of KerasHub."
        )
    converter = importlib.import_module(f"keras_hub.src.utils.timm.convert_{family}")
    # By what is there: a config.json may promise a million classes.
    head = tensors.get(f"{source.config.get('pretrained_cfg', {}).get('classifier') or 'classifier'}.weight")
    classes = 1 if head is None or not head.ndim else head.shape[0]
    classifier, loader = build_classifier(short, image_shape, classes), _Tensors(tensors)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints each layer
            converter.convert_weights(classifier.backbone, loader, source.config)
            if head is not None:
                converter.convert_head(classifier, loader, source.config)
    except (KeyError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise exits.CannotRun(
            f"{source.place} is no {printable(str(source.config['architecture']))[:60]} as KerasHub knows it:"
            f" {type(error).__name__} {printable(str(error).splitlines()[0] if str(error) else '')[:200]}; give weights of"
            f" --model={name}."
        ) from error
    converted = [
        Layer(owner.names, tuple(keras.ops.convert_to_numpy(variable) for variable in owner.variables))
        for owner in owners(classifier)
    ]
    return converted, [key for key in tensors if key not in loader.taken and not key.endswith("num_batches_tracked")]
