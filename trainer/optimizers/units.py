"""The units of a weight: which of its axes count inputs, and which count units. Muon and adaptive clipping ask."""

from __future__ import annotations

import re

import keras

# Of keras.layers.MultiHeadAttention: kernels [inputs, heads, size of a head].
_PROJECTION = re.compile(r"(^|/)(query|key|value)/kernel$")


def input_axes(variable: keras.Variable) -> int:
    """How many of a variable's first axes count the inputs of a unit; the axes after them count units.

    0 for a vector, which has no units. Kernels are as Keras has them: dense [inputs, units], convolution [h, w, inputs, units],
    depthwise [h, w, inputs, 1], where each input is a unit.
    """
    rank = len(variable.shape)
    if rank < 2:
        return 0
    if rank == 3 and _PROJECTION.search(variable.path):
        return 1
    return rank - 2 if rank == 4 and variable.shape[-1] == 1 else rank - 1


def head_of(model: keras.Model) -> list[keras.Variable]:
    """The variables of the layer that makes the logits: the one that the last weight of two or more dimensions belongs to."""
    layers = [variable.path.rpartition("/")[0] for variable in model.weights if len(variable.shape) > 1]
    return [variable for variable in model.weights if layers and variable.path.rpartition("/")[0] == layers[-1]]
