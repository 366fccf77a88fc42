"""Adaptive gradient clipping: a unit's gradient is at most a part of its weights (Brock et al. 2021)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
from keras import ops

from convoy.data.arrays import Array
from convoy.trainer.optimizers.units import head_of, input_axes


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping:
    """Clips gradients of a model's trainable variables (Brock et al. 2021, arXiv:2102.06171, section 4.1).

    For each unit i of a weight w with gradient g: where |g_i| > factor * max(|w_i|, epsilon), g_i is scaled to that norm. Units
    are output channels of a convolution and columns of a dense kernel (convoy.trainer.optimizers.units). A vector is one unit.

    Args:
      factor: above 0; lambda in the paper.
      axes: of each variable, how many of its first axes count the inputs of a unit; None for one that is not clipped.
      epsilon: above 0, so that weights of 0 can move.
    """

    factor: float
    axes: Sequence[int | None]
    epsilon: float = 1e-3

    def __call__(self, gradients: Sequence[Array], weights: Sequence[Array], indices: Sequence[int]) -> list[Array]:
        """The clipped gradients of the variables at `indices`."""
        axes = [self.axes[index] for index in indices]
        each = zip(gradients, weights, axes, strict=True)
        return [g if inputs is None else self._clipped(g, w, inputs) for g, w, inputs in each]

    def _clipped(self, gradient: Array, weight: Array, inputs: int) -> Array:
        limit = self.factor * ops.maximum(_norms(weight, inputs), self.epsilon)
        norms = _norms(gradient, inputs)
        return ops.where(norms > limit, gradient * (limit / ops.where(norms > limit, norms, 1)), gradient)


def adaptive_clipping(factor: float, model: keras.Model) -> AdaptiveClipping:
    """--clip_agc for a model's trainable variables, of which the head's are not clipped, as in the paper."""
    head = {id(variable) for variable in head_of(model)}
    axes = [None if id(variable) in head else input_axes(variable) for variable in model.trainable_variables]
    return AdaptiveClipping(factor, axes)


def _norms(tensor: Array, inputs: int) -> Array:
    """The norm of each unit, or of all of a vector, in a shape that broadcasts to the tensor's."""
    axes = tuple(range(inputs or len(tensor.shape)))
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axes, keepdims=True))
