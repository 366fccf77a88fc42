"""A step for each layer that depends on the norms of its weights and of its update, as LARS and LAMB make it."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.one_pass import Given, OnePass, Updated, compiled, matches


class Layerwise(OnePass):
    """An optimizer that moves a variable along `direction`, at learning rate * trust ratio, as `move` says.

    The trust ratio is `trust_coefficient` * |weight| / (|direction| + `norm_epsilon`), or 1 where a norm is 0, for what is 0
    must be able to move, and for variables that are excluded from layer adaptation.

    On TensorFlow the norms are TensorFlow's own, between two programs that XLA compiles: its XLA sums up on one core. On JAX
    all is one program. A norm that shares a subexpression with what is stored would be summed up on one core there, so
    `direction_norm` is written without one.

    Args:
      exclude_from_layer_adaptation: regular expressions, searched in variables' paths. The rest as in OnePass.
    """

    trust_coefficient: float = 1.0
    norm_epsilon: float = 0.0

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float,
        exclude_from_layer_adaptation: Sequence[str],
        exclude_from_weight_decay: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, **options)
        self.not_adapted = tuple(exclude_from_layer_adaptation)

    @abc.abstractmethod
    def direction(self, given: Given) -> Updated:
        """What a variable moves along, weight decay included, and its slots."""

    @abc.abstractmethod
    def direction_norm(self, given: Given) -> Scalar:
        """norm(direction), where the slots are those after `direction`."""

    @abc.abstractmethod
    def move(self, weight: Array, direction: Array, slots: Sequence[Array], rate: Scalar) -> Updated:
        """The weight and its slots after a step. The slots are those after `direction`; `rate` includes the trust ratio."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Adds the slots, all 0."""
        self._adapts = [not matches(self.not_adapted, variable.path) for variable in variables]
        super().build(variables)

    def update_variable(self, given: Given) -> Updated:
        direction, slots = self.direction(given)
        ratio = self._trust_ratio(norm(given.weight), self.direction_norm(given._replace(slots=slots)))
        return self.move(given.weight, direction, slots, given.rate * ratio)

    def update_variables(self, indices: Sequence[int], every: Sequence[Given]) -> list[Updated]:
        each = zip(indices, every, strict=True)
        return [self.update_variable(given) if self._adapts[index] else self._unadapted(given) for index, given in each]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"exclude_from_layer_adaptation": list(self.not_adapted)}

    def _unadapted(self, given: Given) -> Updated:
        direction, slots = self.direction(given)
        return self.move(given.weight, direction, slots, given.rate)

    def _trust_ratio(self, weight_norm: Scalar, direction_norm: Scalar) -> Scalar:
        sound = ops.logical_and(weight_norm > 0, direction_norm > 0)
        ratio = self.trust_coefficient * weight_norm / (ops.where(sound, direction_norm, 1) + self.norm_epsilon)
        return ops.where(sound, ratio, 1)

    def _build_step(self, indices: tuple[int, ...]) -> Callable[..., list[Updated]]:
        if keras.backend.backend() != "tensorflow":
            return super()._build_step(indices)
        import tensorflow as tf

        treated = [self._treated[index] for index in indices]

        def norm_of(tensor: Array) -> Scalar:
            return tf.sqrt(2 * tf.nn.l2_loss(tensor))

        @compiled
        def directions(
            weights: list[Array], gradients: list[Array], slots: list[list[Array]], rate: Scalar, steps: Scalar
        ) -> list[tuple[Updated, Scalar]]:
            each = zip(treated, weights, gradients, slots, strict=True)
            every = [t.given(w, g, of_one, rate, steps) for t, w, g, of_one in each]
            return [(self.direction(given), given.rate) for given in every]

        @compiled
        def moves(
            weights: list[Array], along: list[tuple[Updated, Scalar]], ratios: list[Scalar | None]
        ) -> list[Updated]:
            each = zip(weights, along, ratios, strict=True)
            return [self.move(w, d, slots, r if ratio is None else r * ratio) for w, ((d, slots), r), ratio in each]

        def step(
            weights: list[Array], gradients: list[Array], slots: list[list[Array]], rate: Scalar, steps: Scalar
        ) -> list[Updated]:
            along = directions(weights, gradients, slots, rate, steps)
            ratios = [
                self._trust_ratio(norm_of(weight), norm_of(direction)) if self._adapts[index] else None
                for index, weight, ((direction, _), _) in zip(indices, weights, along, strict=True)
            ]
            return moves(weights, along, ratios)

        return step


def norm(tensor: Array) -> Scalar:
    """The Euclidean norm."""
    return ops.sqrt(ops.sum(ops.square(tensor)))
