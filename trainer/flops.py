"""The FLOPs of a training step, counted from the network: two for each multiplication with its addition.

Counted are convolutions, dense layers and attention: forward, the gradient of each kernel that trains, and the gradient of what
a layer was given, where a layer that trains stands before it. What --remat computes again does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import keras
from keras import layers
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv

from convoy.trainer.engines import patches

_MATRIX = 2  # dimensions: what has fewer, a bias or a scale, does not count


class Work(NamedTuple):
    """What a step does for one image."""

    layers: dict[str, float]  # path of a layer -> FLOPs, for those that have some
    uncounted: list[str]  # layers with matrices whose work is not known

    @property
    def flops(self) -> float:
        return sum(self.layers.values())


def paths(model: keras.Model, above: str = "") -> Iterator[tuple[keras.layers.Layer, str]]:
    """Every layer of a model with its path, those within others too: backbone/stage1_conv."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        path = f"{above}{layer.name}"
        yield layer, path
        yield from paths(layer, f"{path}/")


def count(model: keras.Model, image_shape: tuple[int, int, int], trained: Collection[int]) -> Work:
    """The work of a step for one image.

    Args:
      model: the network.
      image_shape: (height, width, channels).
      trained: the variables that train, by `id`.
    """
    names = {id(layer): path for layer, path in paths(model)}
    flops: dict[str, float] = {}
    uncounted: list[str] = []
    trains_before = False

    def observe(operation: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        nonlocal trains_before
        name = names.get(id(operation), operation.name)
        own = [variable for variable in getattr(operation, "trainable_variables", ()) if id(variable) in trained]
        is_leaf = not getattr(operation, "_layers", None)
        multiplications = next(
            (
                count_products(operation, inputs, outputs)
                for kind, count_products in _KINDS
                if isinstance(operation, kind)
            ),
            None,
        )
        if multiplications is not None:
            products, has_kernel = multiplications
            passes = 1 + trains_before + (bool(own) if has_kernel else trains_before)
            flops[name] = flops.get(name, 0.0) + 2.0 * products * passes
        elif is_leaf and any(len(variable.shape) >= _MATRIX for variable in own) and name not in uncounted:
            uncounted.append(name)
        trains_before = trains_before or bool(own)

    with patches.observed_calls(model, observe):
        image = keras.KerasTensor((1, *image_shape), keras.config.floatx())
        keras.src.backend.compute_output_spec(lambda image: model(image, training=False), image)
    return Work({name: value for name, value in flops.items() if value}, uncounted)


def _convolution(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    return math.prod(outputs.shape) / layer.filters * math.prod(layer.kernel.shape), True


def _transposed(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    channels = layer.kernel.shape[-1]
    return math.prod(inputs[0].shape) / channels * math.prod(layer.kernel.shape), True


def _depthwise(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    return math.prod(outputs.shape) * math.prod(layer.kernel.shape[:-2]), True


def _separable(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    positions = math.prod(outputs.shape) / layer.filters
    return positions * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)), True


def _dense(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    return math.prod(outputs.shape) * inputs[0].shape[-1], True


def _einsum(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    # An axis of the kernel that is not in the output is summed over.
    terms, result = layer.equation.replace("...", "").split("->")
    summed = [size for axis, size in zip(terms.split(",")[1], layer.kernel.shape, strict=True) if axis not in result]
    return math.prod(outputs.shape) * math.prod(summed), True


def _heads(layer: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else inputs[0]
    pairs = math.prod(query.shape[:-1]) * math.prod(value.shape[1:-1])
    return pairs * layer.num_heads * (layer.key_dim + layer.value_dim), False


def _attention(operation: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    (images, queries, heads, size), value = inputs[0].shape, inputs[2]
    return images * queries * heads * value.shape[1] * (size + value.shape[-1]), False


def _matmul(operation: Any, inputs: tuple[Any, ...], outputs: Any) -> tuple[float, bool]:
    return math.prod(outputs.shape) * inputs[0].shape[-1], False


# A kind of operation -> (multiplications with their additions in the forward pass, whether one of the two factors is a kernel).
_KINDS: tuple[tuple[Any, Callable[[Any, tuple[Any, ...], Any], tuple[float, bool]]], ...] = (
    (BaseConvTranspose, _transposed),
    (BaseDepthwiseConv, _depthwise),
    (BaseSeparableConv, _separable),
    (BaseConv, _convolution),
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum),
    (layers.MultiHeadAttention, _heads),
    (keras.src.ops.nn.DotProductAttention, _attention),
    (keras.src.ops.numpy.Matmul, _matmul),
)
