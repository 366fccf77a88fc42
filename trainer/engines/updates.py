"""An optimizer's update with factors for each variable: --groups and --layer_decay, and counts of --unfreeze."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.engines import patches
from convoy.trainer.optimizers.groups import Treatment
from convoy.trainer.optimizers.one_pass import OnePass

Update = Callable[[Array, keras.Variable, Scalar], None]


class Operations(NamedTuple):
    """A backend's own for one optimizer, where it has any.

    Attributes:
      update: (gradient, variable, learning rate) -> None, as the optimizer's `update_step`.
      decay: (variable, factor) -> None: variable <- variable - factor * variable.
    """

    update: Update
    decay: Callable[[keras.Variable, Scalar], None]


def install(
    optimizer: keras.optimizers.Optimizer,
    treatments: Sequence[Treatment],
    first_steps: Sequence[int],
    weight_decay: float,
    operations: Operations | None = None,
) -> None:
    """Has an optimizer treat each variable as its treatment says, by the operations if there are any.

    Where treatments say nothing, and there are none, it stays as it is.

    A variable v with factors lr and wd, at a learning rate r: v <- v - (r lr) (weight_decay wd) v, then the optimizer's own
    update at the learning rate (r lr). Weight decay leaves out what the optimizer leaves out. Bias corrections count from the
    variable's first step, since it has no gradient before.

    Args:
      optimizer: changed in place.
      treatments: of the variables that the optimizer was built for, in their order.
      first_steps: of each stage.
      weight_decay: --weight_decay.
      operations: the backend's.
    """
    if not operations and all(treatment == Treatment() for treatment in treatments):
        return
    if isinstance(optimizer, OnePass):
        optimizer.treat(treatments, [first_steps[treatment.stage or 0] for treatment in treatments])
        return

    def shrink(variable: keras.Variable, factor: Scalar) -> None:
        optimizer.assign_sub(variable, variable * factor)

    shrinks = operations.decay if operations else shrink

    def update(step: Update, gradient: Array, variable: keras.Variable, rate: Scalar) -> None:
        treatment = treatments[optimizer._get_variable_index(variable)]
        assert treatment.stage is not None, "what never trains has no gradient"
        rate = rate * treatment.lr
        if (decay := weight_decay * treatment.wd) and optimizer._use_weight_decay(variable):
            shrinks(variable, ops.cast(rate, variable.dtype) * decay)
        with patches.counting_from(optimizer, first_steps[treatment.stage]):
            (operations.update if operations else step)(gradient, variable, rate)

    patches.replace_update(optimizer, update)
