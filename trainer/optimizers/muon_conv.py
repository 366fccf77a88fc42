"""Muon for convolutions too: a kernel is a matrix of its inputs and its units, whose momentum is orthogonalized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from convoy.data.arrays import Array
from convoy.trainer.optimizers.one_pass import (
    BIASES_AND_NORMALIZATION,
    Given,
    OnePass,
    Updated,
    bias_correction,
    exactly,
    matches,
)
from convoy.trainer.optimizers.units import head_of, input_axes
from convoy.trainer.schedules.schedule import Schedule

EMBEDDINGS = ("embedding", "class_token")  # in paths of variables

_QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: steep at 0, near 1 from there on
_TINY = 1e-7  # beside a norm


@keras.saving.register_keras_serializable("convoy")
class MuonConv(OnePass):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for dense and convolution kernels.

    With g the gradient and r the learning rate, each kernel w, as a matrix of inputs x units, does

        m <- momentum * m + g
        d = g + momentum * m with nesterov, or m
        w <- w - r * weight_decay * w - r * rms_rate * sqrt(max(inputs, units)) * orthogonal(d)

    where `orthogonal` is `iterations` steps of Newton and Schulz. The factor gives an update the size that Adam's has, so that
    Adam's learning rates and weight decay serve (Liu et al. 2025, section 2.2). All other variables are Adam's with decoupled
    weight decay: vectors, embeddings, matrices with one row or column, and those that `exclude` names. The head should be one.

    Kernels of one shape are orthogonalized in one product of matrices. For networks without convolutions the numbers are those
    of keras.optimizers.Muon, which gives every convolution to Adam.

    Args:
      learning_rate: a number or a Keras schedule.
      momentum: from 0 to below 1.
      nesterov: whether to look ahead.
      iterations: of Newton and Schulz, 1 or more.
      rms_rate: the root of the mean square of an update at learning rate 1.
      weight_decay: 0 or more.
      beta_1, beta_2, epsilon: Adam's.
      exclude: regular expressions, searched in variables' paths: left to Adam.
      exclude_from_weight_decay: like `exclude`.
      **options: of keras.optimizers.Optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        momentum: float = 0.95,
        nesterov: bool = True,
        iterations: int = 5,
        rms_rate: float = 0.2,
        weight_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        exclude: Sequence[str] = EMBEDDINGS,
        exclude_from_weight_decay: Sequence[str] = BIASES_AND_NORMALIZATION,
        name: str = "muon_conv",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, name=name, **options)
        self.momentum = momentum
        self.nesterov = nesterov
        self.newton_schulz_iterations = iterations
        self.rms_rate = rms_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.exclude = tuple(exclude)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Adds the slots, all 0: a momentum each, and a velocity where Adam is used."""
        if not self.built:
            self._matrices = [self._matrix(variable) for variable in variables]
        super().build(variables)

    def add_slots(self, variable: keras.Variable, reference: keras.Variable) -> list[keras.Variable]:
        names = ["momentum"] if self._matrices[self._get_variable_index(variable)] else ["momentum", "velocity"]
        return [self.add_variable_from_reference(reference, name) for name in names]

    def update_variables(self, indices: Sequence[int], every: Sequence[Given]) -> list[Updated]:
        kernels = [place for place, index in enumerate(indices) if self._matrices[index]]
        momenta = {place: self.momentum * every[place].slots[0] + every[place].gradient for place in kernels}
        ahead = [every[place].gradient + self.momentum * m if self.nesterov else m for place, m in momenta.items()]
        directions = orthogonalized(
            [ops.reshape(d, self._matrices[indices[place]]) for place, d in zip(kernels, ahead, strict=True)],
            self.newton_schulz_iterations,
        )
        direction_of = dict(zip(kernels, directions, strict=True))
        updated = []
        for place, given in enumerate(every):
            if place not in direction_of:
                updated.append(self.update_variable(given))
                continue
            direction = direction_of[place]
            move = self.rms_rate * math.sqrt(max(direction.shape)) * ops.reshape(direction, given.weight.shape)
            weight = given.weight - given.rate * (move + given.decay * given.weight)
            updated.append((weight, [momenta[place]]))
        return updated

    def update_variable(self, given: Given) -> Updated:
        """Adam's, as keras.optimizers.AdamW has it."""
        mean, square = given.slots
        mean = mean + (1 - self.beta_1) * (given.gradient - mean)
        square = square + (1 - self.beta_2) * (ops.square(given.gradient) - square)
        root = ops.sqrt(bias_correction(self.beta_2, given.step))
        alpha = given.rate * root / bias_correction(self.beta_1, given.step)
        weight = given.weight - given.rate * given.decay * given.weight if given.decay else given.weight
        return weight - alpha * mean / (ops.sqrt(square) + self.epsilon), [mean, square]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "iterations": self.newton_schulz_iterations,
            "rms_rate": self.rms_rate,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "exclude": list(self.exclude),
        }

    def _matrix(self, variable: keras.Variable) -> tuple[int, int] | None:
        """(inputs, units) of a variable whose momentum is orthogonalized."""
        inputs = math.prod(variable.shape[: input_axes(variable)])
        units = math.prod(variable.shape) // inputs
        return (inputs, units) if min(inputs, units) > 1 and not matches(self.exclude, variable.path) else None


def orthogonalized(matrices: Sequence[Array], iterations: int) -> list[Array]:
    """The matrices, floats [rows, columns], with all singular values brought near 1; those that are 0 stay 0.

    Matrices of one shape, and of its transpose, go through together.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for index, matrix in enumerate(matrices):
        low, high = sorted(matrix.shape)
        alike.setdefault((low, high), []).append(index)
    results: dict[int, Array] = {}
    for (low, _), indices in alike.items():
        stack = ops.stack([_turned(matrices[index], matrices[index].shape[0] > low) for index in indices])
        for index, result in zip(indices, ops.unstack(newton_schulz(stack, iterations)), strict=True):
            results[index] = _turned(result, matrices[index].shape[0] > low)
    return [results[index] for index in range(len(matrices))]


def newton_schulz(stack: Array, iterations: int) -> Array:
    """The same of matrices [n, rows, columns], with no more rows than columns."""
    a, b, c = _QUINTIC
    x = stack / (ops.sqrt(ops.sum(ops.square(stack), axis=(1, 2), keepdims=True)) + _TINY)
    for _ in range(iterations):
        gram = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return x


def _turned(matrix: Array, turns: bool) -> Array:
    return ops.transpose(matrix) if turns else matrix


def muon_conv(schedule: Schedule, weight_decay: float | None, model: keras.Model) -> keras.optimizers.Optimizer:
    """--optimizer=muon_conv."""
    return MuonConv(schedule, weight_decay=weight_decay or 0.0, exclude=(*EMBEDDINGS, *exactly(head_of(model))))
