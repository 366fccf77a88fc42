"""LARS: a rate for each layer, as large as the layer's weights are beside their gradient (You et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.layerwise import Layerwise, norm
from convoy.trainer.optimizers.one_pass import BIASES_AND_NORMALIZATION, Given, Updated, exactly, small
from convoy.trainer.optimizers.sgd import with_momentum
from convoy.trainer.schedules.schedule import Schedule

_SMALL = 1e-12  # weight decay


@keras.saving.register_keras_serializable("convoy")
class LARS(Layerwise):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888, algorithm 1), for batches of thousands.

    With g = gradient + weight_decay * w, and r the learning rate, each variable w does

        ratio = trust_coefficient * |w| / (|g| + epsilon), or 1 where |w| or |g| is 0
        v <- momentum * v + r * ratio * g
        w <- w - v,  or w - (momentum * v + r * ratio * g) with nesterov

    as optax.lars and TensorFlow Models' classic momentum do. Variables excluded from layer adaptation have the ratio 1.

    Args:
      learning_rate: a number or a Keras schedule. It stands inside the momentum, as in the paper: what v holds is not scaled
        by a schedule's later values.
      momentum: from 0 to below 1.
      weight_decay: 0 or more; the L2 of the ResNet papers.
      trust_coefficient: above 0; eta in the paper.
      nesterov: whether to look ahead.
      epsilon: 0 or more.
      exclude_from_layer_adaptation, exclude_from_weight_decay: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    slots: ClassVar = ("momentum",)

    def __init__(
        self,
        learning_rate: Any = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        nesterov: bool = False,
        epsilon: float = 0.0,
        exclude_from_layer_adaptation: Sequence[str] = BIASES_AND_NORMALIZATION,
        exclude_from_weight_decay: Sequence[str] = BIASES_AND_NORMALIZATION,
        name: str = "lars",
        **options: Any,
    ) -> None:
        excluded = exclude_from_layer_adaptation, exclude_from_weight_decay
        super().__init__(learning_rate, weight_decay, *excluded, name=name, **options)
        self.epsilon = self.norm_epsilon = epsilon
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.nesterov = nesterov

    def direction(self, given: Given) -> Updated:
        return given.gradient + given.decay * given.weight if given.decay else given.gradient, [*given.slots]

    def direction_norm(self, given: Given) -> Scalar:
        if not given.decay:
            return norm(given.gradient)
        if given.decay < _SMALL:  # by which a gradient cannot be divided
            return norm(given.gradient + given.decay * given.weight)
        # An expression that `direction` does not have. Other factors, such as 2 and 1 / 2, XLA would take apart again.
        return given.decay * norm(given.gradient / given.decay + given.weight)

    def move(self, weight: Array, direction: Array, slots: Sequence[Array], rate: Scalar) -> Updated:
        return with_momentum(weight, direction, slots, rate, self.momentum, self.nesterov)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "momentum": self.momentum,
            "trust_coefficient": self.trust_coefficient,
            "nesterov": self.nesterov,
            "epsilon": self.epsilon,
        }


def lars(
    schedule: Schedule,
    weight_decay: float | None,
    model: keras.Model,
    momentum: float,
    nesterov: bool,
    trust_coefficient: float,
) -> keras.optimizers.Optimizer:
    """--optimizer=lars."""
    return LARS(
        schedule,
        momentum,
        weight_decay or 0.0,
        trust_coefficient,
        nesterov,
        exclude_from_layer_adaptation=exactly(small(model)),
    )
