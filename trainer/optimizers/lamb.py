"""LAMB: Adam's update at a rate for each layer, as large as the layer's weights (You et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.layerwise import Layerwise, norm
from convoy.trainer.optimizers.one_pass import (
    BIASES_AND_NORMALIZATION,
    Given,
    Updated,
    bias_correction,
    exactly,
    small,
)
from convoy.trainer.schedules.schedule import Schedule


@keras.saving.register_keras_serializable("convoy")
class LAMB(Layerwise):
    """Layer-wise adaptive moments for batches (You et al. 2020, arXiv:1904.00962, algorithm 2), with phi(x) = x.

    At step t, with the gradient g and the learning rate r, each variable w does

        m <- beta_1 * m + (1 - beta_1) * g,  v <- beta_2 * v + (1 - beta_2) * g^2
        u = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay * w
        w <- w - r * |w| / |u| * u, with the ratio 1 where |w| or |u| is 0

    as optax.lamb does. Weight decay stands inside the ratio, so decay turns a layer's weights without outrunning its rate; in
    keras.optimizers.Lamb it stands outside. Variables excluded from layer adaptation have the ratio 1.

    Args:
      learning_rate: a number or a Keras schedule.
      beta_1, beta_2: from 0 to below 1.
      epsilon: above 0.
      weight_decay: 0 or more.
      exclude_from_layer_adaptation, exclude_from_weight_decay: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    slots: ClassVar = ("momentum", "velocity")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        exclude_from_layer_adaptation: Sequence[str] = BIASES_AND_NORMALIZATION,
        exclude_from_weight_decay: Sequence[str] = BIASES_AND_NORMALIZATION,
        name: str = "lamb",
        **options: Any,
    ) -> None:
        excluded = exclude_from_layer_adaptation, exclude_from_weight_decay
        super().__init__(learning_rate, weight_decay, *excluded, name=name, **options)
        self.epsilon = epsilon
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def direction(self, given: Given) -> Updated:
        mean = self.beta_1 * given.slots[0] + (1 - self.beta_1) * given.gradient
        square = self.beta_2 * given.slots[1] + (1 - self.beta_2) * ops.square(given.gradient)
        # Scalars are inverted first: a number of an array is divided once.
        of_mean, of_square = (1 / bias_correction(beta, given.step) for beta in (self.beta_1, self.beta_2))
        update = mean * of_mean / (ops.sqrt(square * of_square) + self.epsilon)
        return update + given.decay * given.weight if given.decay else update, [mean, square]

    def direction_norm(self, given: Given) -> Scalar:
        # The bias corrections, which are scalars, stand outside the sum.
        mean, square = given.slots
        root = ops.sqrt(bias_correction(self.beta_2, given.step))
        factor = root / bias_correction(self.beta_1, given.step)
        update = mean / (ops.sqrt(square) + self.epsilon * root)
        return factor * norm(update + (given.decay / factor) * given.weight if given.decay else update)

    def move(self, weight: Array, direction: Array, slots: Sequence[Array], rate: Scalar) -> Updated:
        return weight - rate * direction, [*slots]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


def lamb(
    schedule: Schedule, weight_decay: float | None, model: keras.Model, beta_2: float
) -> keras.optimizers.Optimizer:
    """--optimizer=lamb."""
    return LAMB(
        schedule,
        beta_2=beta_2,
        weight_decay=weight_decay or 0.0,
        exclude_from_layer_adaptation=exactly(small(model)),
    )
