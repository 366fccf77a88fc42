"""Tensors named as in timm -> variables of a network whose layers have timm's names: blocks.0.0.conv_dw.weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from convoy.trainer.models.pretrained.owners import HEAD, Matched, Owner

# Names of PyTorch, in the order of Keras' variables.
_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")
_OTHERS = ("weight", "bias")
_COUNTER = "num_batches_tracked"  # says nothing about what a network computes


def matched(owners: Sequence[Owner], tensors: Mapping[str, np.ndarray], classifier: str) -> Matched:
    """What a file has for each variable, with axes in Keras' order.

    Args:
      owners: of the network.
      tensors: of the file.
      classifier: the file's name of the head.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        modules.setdefault(module, {})[parameter] = tensor
    values: dict[str, np.ndarray] = {}
    taken = set[str]()
    for owner in owners:
        module = classifier if owner.names[-1] == HEAD else owner.names[-1]
        parameters = modules.get(module, {})
        names = _NORMALIZATION if isinstance(owner.layer, keras.layers.BatchNormalization) else _OTHERS
        for variable, parameter in zip(owner.variables, names, strict=False):
            if parameter in parameters:
                values[variable.path] = _turned(owner.layer, parameters[parameter])
                taken.add(f"{module}.{parameter}")
    unused = [name for name in tensors if name not in taken and not name.endswith(_COUNTER)]
    return Matched(values, unused)


def _turned(layer: keras.layers.Layer, tensor: np.ndarray) -> np.ndarray:
    """A tensor of PyTorch, with the axes of Keras."""
    if tensor.ndim == 4:  # (out, in, height, width); depthwise (channels, 1, height, width)
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        return tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return tensor.T if tensor.ndim == 2 else tensor
