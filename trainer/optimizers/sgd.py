"""SGD with momentum, and the two ways in which the field decays its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.keras_own import single
from convoy.trainer.optimizers.one_pass import BIASES_AND_NORMALIZATION, Given, OnePass, Updated
from convoy.trainer.schedules.schedule import Schedule


@keras.saving.register_keras_serializable("convoy")
class SGDWithL2(OnePass):
    """SGD with momentum of the gradient and weight_decay * w, as in the ResNet papers and PyTorch (He et al. 2016).

    With g = gradient + weight_decay * w, and r the learning rate, each variable w does

        v <- momentum * v + r * g
        w <- w - v,  or w - (momentum * v + r * g) with nesterov

    Weight decay passes through the momentum: at a constant rate it shrinks weights 1 / (1 - momentum) times as much as
    decoupled decay of the same number, which keras.optimizers.SGD has.

    Args:
      learning_rate: a number or a Keras schedule. It stands inside the momentum (Goyal et al. 2017, section 3).
      momentum: from 0 to below 1.
      weight_decay: 0 or more.
      nesterov: whether to look ahead.
      exclude_from_weight_decay: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    slots: ClassVar = ("momentum",)

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = True,
        exclude_from_weight_decay: Sequence[str] = BIASES_AND_NORMALIZATION,
        name: str = "sgd_with_l2",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, name=name, **options)
        self.momentum = momentum
        self.nesterov = nesterov

    def update_variable(self, given: Given) -> Updated:
        gradient = given.gradient + given.decay * given.weight if given.decay else given.gradient
        return with_momentum(given.weight, gradient, given.slots, given.rate, self.momentum, self.nesterov)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}


def with_momentum(
    weight: Array, direction: Array, slots: Sequence[Array], rate: Scalar, momentum: float, nesterov: bool
) -> Updated:
    """A step along a direction, with the momentum in the one slot: v <- momentum * v + rate * direction, w <- w - v."""
    velocity = momentum * slots[0] + rate * direction
    return weight - (momentum * velocity + rate * direction if nesterov else velocity), [velocity]


def sgd(
    schedule: Schedule, weight_decay: float | None, model: keras.Model, momentum: float, weight_decay_mode: str
) -> keras.optimizers.Optimizer:
    """--optimizer=sgd."""
    if weight_decay_mode == "l2":
        return SGDWithL2(schedule, momentum, weight_decay or 0.0)
    return keras.optimizers.SGD(schedule, momentum=single(momentum), nesterov=True, weight_decay=weight_decay)
