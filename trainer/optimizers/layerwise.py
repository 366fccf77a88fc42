"""A step for each layer that depends on the norms of its weights and of its update, as LARS and LAMB make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.one_pass import OnePass, Treated


class Layerwise(OnePass):
    """An optimizer that moves a variable along `direction`, at learning rate * trust ratio, as `move` says.

    The trust ratio is `trust_coefficient` * |weight| / (|direction| + `norm_epsilon`), or 1 where a norm is 0, for what is 0
    must be able to move, and for variables that are excluded from layer adaptation.

    On TensorFlow the norms are TensorFlow's own, between two programs that XLA compiles: its XLA sums up on one core. On JAX
    all is one program. A norm that shares a subexpression with what is stored would be summed up on one core there, so
    `direction_norm` is written without one.
    """

    trust_coefficient: float = 1.0
    norm_epsilon: float = 0.0

    def direction(
        self, weight: Array, gradient: Array, slots: Sequence[Array], step: Scalar, treated: Treated
    ) -> tuple[Array, list[Array]]:
        """What a variable moves along, weight decay included, and its slots. The arguments are those of `update_variable`."""
        raise NotImplementedError

    def direction_norm(
        self, weight: Array, gradient: Array, slots: Sequence[Array], step: Scalar, treated: Treated
    ) -> Scalar:
        """norm(direction), from the slots after `direction`."""
        raise NotImplementedError

    def move(self, weight: Array, direction: Array, slots: Sequence[Array], rate: Scalar) -> tuple[Array, list[Array]]:
        """The weight and its slots after a step. The slots are those after `direction`; `rate` includes the trust ratio."""
        raise NotImplementedError

    def update_variable(
        self, weight: Array, gradient: Array, slots: Sequence[Array], rate: Scalar, step: Scalar, treated: Treated
    ) -> tuple[Array, list[Array]]:
        direction, moved = self.direction(weight, gradient, slots, step, treated)
        if treated.adapts:
            rate = rate * self._trust_ratio(norm(weight), self.direction_norm(weight, gradient, moved, step, treated))
        return self.move(weight, direction, moved, rate)

    def _trust_ratio(self, weight_norm: Scalar, direction_norm: Scalar) -> Scalar:
        sound = ops.logical_and(weight_norm > 0, direction_norm > 0)
        ratio = self.trust_coefficient * weight_norm / (ops.where(sound, direction_norm, 1) + self.norm_epsilon)
        return ops.where(sound, ratio, 1)

    def _build_step(self, indices: tuple[int, ...]) -> Callable[..., Any]:
        if keras.backend.backend() != "tensorflow":
            return super()._build_step(indices)
        import tensorflow as tf

        every = [self._treated[index] for index in indices]

        @tf.function(autograph=False, jit_compile=True)
        def directions(weights: list[Array], gradients: list[Array], slots: list[list[Array]], steps: Scalar) -> Any:
            each = zip(weights, gradients, slots, every, strict=True)
            return [
                self.direction(w, ops.cast(g, w.dtype), of_one, t.number(steps, w.dtype), t) for w, g, of_one, t in each
            ]

        @tf.function(autograph=False, jit_compile=True)
        def moves(
            weights: list[Array], along: list[Array], slots: list[list[Array]], ratios: list[Array], rate: Scalar
        ) -> Any:
            each = zip(weights, along, slots, ratios, every, strict=True)
            return [self.move(w, d, of_one, r * t.scaled(rate, w.dtype)) for w, d, of_one, r, t in each]

        def step(
            weights: list[Array], gradients: list[Array], slots: list[list[Array]], rate: Scalar, steps: Scalar
        ) -> tuple[list[Array], list[list[Array]]]:
            along, moved = zip(*directions(weights, gradients, slots, steps), strict=True)
            ratios = [
                self._trust_ratio(tf.sqrt(2 * tf.nn.l2_loss(w)), tf.sqrt(2 * tf.nn.l2_loss(d)))
                if t.adapts
                else tf.ones((), w.dtype)
                for w, d, t in zip(weights, along, every, strict=True)
            ]
            updated, moved = zip(*moves(weights, list(along), list(moved), ratios, rate), strict=True)
            return list(updated), list(moved)

        return step


def norm(tensor: Array) -> Scalar:
    """The Euclidean norm."""
    return ops.sqrt(ops.sum(ops.square(tensor)))
