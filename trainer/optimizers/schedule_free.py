"""Schedule-free AdamW: an average of the iterates in place of a falling learning rate (Defazio et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from convoy.data.arrays import Array
from convoy.trainer.optimizers.one_pass import BIASES_AND_NORMALIZATION, Given, OnePass, Updated, bias_correction
from convoy.trainer.schedules.schedule import Schedule


@keras.saving.register_keras_serializable("convoy")
class ScheduleFreeAdamW(OnePass):
    """Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682, algorithm 1), for a constant rate, after a warm-up or not.

    A variable holds y, where gradients are taken; z is the sequence of AdamW without momentum, and x, their average, is what to
    evaluate and to keep. At step t, with the gradient g at y and the learning rate r:

        v <- beta_2 * v + (1 - beta_2) * g^2
        z <- z - r * (g / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay * y)
        x <- (1 - c) * x + c * z  with c = R^2 / the sum of R^2 so far, where R is the largest r so far
        y <- (1 - beta_1) * z + beta_1 * x

    as the authors' schedulefree package does. keras.optimizers.ScheduleFreeAdamW has c = 1 / t, which weighs a warm-up like the
    rest, and decays y alone, not z.

    x is not stored: y and z give it, in `evaluation_value`. Convoy evaluates, averages and saves that. In Keras `fit` puts x in
    place of y at its end; call `continue_training` before another `fit`.

    Args:
      learning_rate: a number or a Keras schedule.
      beta_1: above 0, below 1; how near y is to x.
      beta_2, epsilon: Adam's.
      weight_decay: 0 or more.
      exclude_from_weight_decay: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: Sequence[str] = BIASES_AND_NORMALIZATION,
        name: str = "schedule_free_adamw",
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay, exclude_from_weight_decay, name=name, **options)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def add_slots(self, variable: keras.Variable, reference: keras.Variable) -> list[keras.Variable]:
        """z, which begins where the variable is; v; and R with the sum of R^2, a pair for each variable, since each has a first
        step of its own."""

        def as_it_is(*_: Any, **__: Any) -> Array:
            return ops.cast(variable, reference.dtype)

        return [
            self.add_variable_from_reference(reference, "base", initializer=as_it_is),
            self.add_variable_from_reference(reference, "velocity"),
            self.add_variable((2,), dtype=reference.dtype, name=f"{variable.path.replace('/', '_')}_rates"),
        ]

    def update_variable(self, given: Given) -> Updated:
        base, square, rates = given.slots
        square = self.beta_2 * square + (1 - self.beta_2) * ops.square(given.gradient)
        move = given.gradient / (ops.sqrt(square / bias_correction(self.beta_2, given.step)) + self.epsilon)
        if given.decay:
            move = move + given.decay * given.weight
        largest = ops.maximum(rates[0], given.rate)
        total = rates[1] + ops.square(largest)
        share = ops.square(largest) / ops.where(total > 0, total, 1)
        # y of the new z and x, from the old y and z.
        weight = given.weight + share * (base - given.weight) + given.rate * (self.beta_1 * (1 - share) - 1) * move
        return weight, [base - given.rate * move, square, ops.stack([largest, total])]

    def evaluation_value(self, variable: keras.Variable) -> Array:
        """x of a variable that is trained; any other as it is."""
        index = self._trainable_variables_indices.get(self._var_key(variable))
        if index is None:
            return ops.convert_to_tensor(variable)
        weight, base = map(ops.convert_to_tensor, (self._stored(index, variable), self._slots[index][0]))
        return ops.cast(weight + (1 - 1 / self.beta_1) * (base - weight), variable.dtype)

    def finalize_variable_values(self, variables: Sequence[keras.Variable]) -> None:
        """Puts x in place of y; Keras' `fit` calls this at its end."""
        super().finalize_variable_values(variables)
        for variable in variables:
            self.assign(variable, self.evaluation_value(variable))

    def continue_training(self, variables: Sequence[keras.Variable]) -> None:
        """Puts y in place of x again."""
        for variable in variables:
            index = self._get_variable_index(variable)
            stored, base = self._stored(index, variable), ops.convert_to_tensor(self._slots[index][0])
            # A master copy still holds y.
            y = stored if stored is not variable else variable + (1 - self.beta_1) * (base - variable)
            self.assign(variable, ops.cast(y, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


def schedule_free_adamw(
    schedule: Schedule, weight_decay: float | None, model: keras.Model
) -> keras.optimizers.Optimizer:
    """--optimizer=schedule_free_adamw."""
    return ScheduleFreeAdamW(schedule, weight_decay=weight_decay or 0.0)
