"""An optimizer whose step is one function of all variables."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.groups import Treatment

# Paths of variables, as regular expressions.
BIASES_AND_NORMALIZATION = (r"(^|/)(bias|gamma|beta)$",)


@dataclasses.dataclass(frozen=True)
class Treated:
    """What a step does with one variable.

    Attributes:
      rate: a factor of the learning rate.
      decay: weight decay.
      adapts: whether its layer has a rate of its own.
      first_step: bias corrections count from it.
    """

    rate: float = 1.0
    decay: float = 0.0
    adapts: bool = True
    first_step: int = 0

    def scaled(self, rate: Scalar, dtype: Any) -> Scalar:
        """Its learning rate, where that of all is `rate`."""
        return ops.cast(rate, dtype) * self.rate

    def number(self, steps: Scalar, dtype: Any) -> Scalar:
        """The number of its step, from 1 on, after so many steps of the run."""
        return ops.cast(steps + 1 - self.first_step, dtype)


class OnePass(keras.optimizers.Optimizer):
    """An optimizer whose step is one function of all variables. Subclasses write it for one variable, in `update_variable`.

    On TensorFlow XLA compiles the function, so that memory is passed over as seldom as can be; on JAX it is part of the
    caller's program. Weight decay is part of the function too. Variables of 16 bits have a master copy in float32, and slots of
    float32.

    Args:
      learning_rate: a number or a Keras schedule.
      weight_decay: 0 or more.
      exclude_from_weight_decay, exclude_from_layer_adaptation: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    slots: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float,
        exclude_from_weight_decay: Sequence[str],
        exclude_from_layer_adaptation: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **options)
        self.not_decayed = tuple(exclude_from_weight_decay)
        self.not_adapted = tuple(exclude_from_layer_adaptation)

    def update_variable(
        self, weight: Array, gradient: Array, slots: Sequence[Array], rate: Scalar, step: Scalar, treated: Treated
    ) -> tuple[Array, list[Array]]:
        """The weight and its slots after a step.

        Args:
          weight, gradient, slots: floats of one shape and type.
          rate: this variable's learning rate; step: its number, from 1 on. Scalars of the same type.
          treated: the rest of what is special about the variable; its `rate` is in `rate` already.
        """
        raise NotImplementedError

    def update_variables(
        self,
        indices: Sequence[int],
        weights: Sequence[Array],
        gradients: Sequence[Array],
        slots: Sequence[Sequence[Array]],
        rates: Sequence[Scalar],
        steps: Sequence[Scalar],
    ) -> tuple[list[Array], list[list[Array]]]:
        """The weights and the slots of all variables after a step. For subclasses whose variables go better together.

        Args:
          indices: of the variables, in the order in which they were built. The rest as in `update_variable`, for each.
        """
        treated = [self._treated[index] for index in indices]
        each = zip(weights, gradients, slots, rates, steps, treated, strict=True)
        updated = [self.update_variable(*of_one) for of_one in each]
        return [weight for weight, _ in updated], [of_one for _, of_one in updated]

    def add_slots(self, variable: keras.Variable, reference: keras.Variable) -> list[keras.Variable]:
        """The slots of one variable, all 0. `reference` has their shape and type: the variable, or its master copy."""
        return [self.add_variable_from_reference(reference, name) for name in self.slots]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Adds the slots, all 0."""
        if self.built:
            return
        super().build(variables)
        self._masters = [self._master(variable) for variable in variables]
        references = [
            variable if master is None else master for master, variable in zip(self._masters, variables, strict=True)
        ]
        self._slots = [self.add_slots(*pair) for pair in zip(variables, references, strict=True)]
        self._treated = [
            Treated(
                decay=self.weight_decay if self._decays(variable) else 0.0,
                adapts=not matches(self.not_adapted, variable.path),
            )
            for variable in variables
        ]
        self._steps: dict[tuple[int, ...], Callable[..., Any]] = {}

    def treat(self, treatments: Sequence[Treatment], first_steps: Sequence[int]) -> None:
        """Multiplies the learning rate and the weight decay of each variable, in the order in which they were built, and counts
        its steps from a later one on."""
        self._treated = [
            dataclasses.replace(now, rate=treatment.lr, decay=now.decay * treatment.wd, first_step=first_step)
            for now, treatment, first_step in zip(self._treated, treatments, first_steps, strict=True)
        ]

    def update_step(self, gradient: Array, variable: keras.Variable, learning_rate: Scalar) -> None:
        """Keras' way to update one variable alone."""
        self._update([gradient], [variable], learning_rate)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"exclude_from_weight_decay": list(self.not_decayed)}

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Nothing: weight decay is part of the update."""

    def _backend_update_step(self, gradients: Sequence[Array], variables: Sequence[Any], learning_rate: Scalar) -> None:
        if keras.backend.backend() == "tensorflow":  # which calls the next method, on each replica
            super()._backend_update_step(gradients, variables, learning_rate)
        else:
            self._update(gradients, variables, learning_rate)

    def _distributed_tf_update_step(
        self, distribution: Any, gradients_and_variables: Sequence[tuple[Array, Any]], learning_rate: Scalar
    ) -> None:
        gradients, variables = zip(*gradients_and_variables, strict=True)
        distribution.extended.update(
            variables[0],
            lambda _, *arguments: self._update(*arguments),
            args=(gradients, variables, learning_rate),
            group=False,
        )

    def _update(self, gradients: Sequence[Array], variables: Sequence[Any], learning_rate: Scalar) -> None:
        """Updates variables, which on TensorFlow may be the copies of one replica."""
        indices = tuple(self._get_variable_index(variable) for variable in variables)
        masters = [self._masters[index] for index in indices]
        slots = [self._slots[index] for index in indices]
        weights, updated_slots = self._step(indices)(
            [
                _value(variable if master is None else master)
                for master, variable in zip(masters, variables, strict=True)
            ],
            [_value(gradient) for gradient in gradients],
            [[_value(slot) for slot in of_one] for of_one in slots],
            _value(learning_rate),
            _value(self.iterations),
        )
        for variable, master, weight in zip(variables, masters, weights, strict=True):
            if master is not None:
                self.assign(master, weight)
            self.assign(variable, ops.cast(weight, variable.dtype))
        for of_one, updated in zip(slots, updated_slots, strict=True):
            for slot, value in zip(of_one, updated, strict=True):
                self.assign(slot, value)

    def _step(self, indices: tuple[int, ...]) -> Callable[..., Any]:
        if indices not in self._steps:
            self._steps[indices] = self._build_step(indices)
        return self._steps[indices]

    def _build_step(self, indices: tuple[int, ...]) -> Callable[..., Any]:
        """(weights, gradients, slots, learning rate, steps made) of some variables -> (weights, slots) after a step.

        Compiled where no program of the caller's is sure to compile it.
        """
        treated = [self._treated[index] for index in indices]

        def step(
            weights: list[Array], gradients: list[Array], slots: list[list[Array]], rate: Scalar, steps: Scalar
        ) -> tuple[list[Array], list[list[Array]]]:
            dtypes = [weight.dtype for weight in weights]
            return self.update_variables(
                indices,
                weights,
                [ops.cast(gradient, dtype) for gradient, dtype in zip(gradients, dtypes, strict=True)],
                slots,
                [each.scaled(rate, dtype) for each, dtype in zip(treated, dtypes, strict=True)],
                [each.number(steps, dtype) for each, dtype in zip(treated, dtypes, strict=True)],
            )

        if keras.backend.backend() != "tensorflow":
            return step
        import tensorflow as tf

        return tf.function(step, autograph=False, jit_compile=True)

    def _decays(self, variable: keras.Variable) -> bool:
        return self._use_weight_decay(variable) and not matches(self.not_decayed, variable.path)

    def _master(self, variable: keras.Variable) -> keras.Variable | None:
        if keras.backend.standardize_dtype(variable.dtype) not in ("float16", "bfloat16"):
            return None
        return self.add_variable(
            variable.shape, lambda *_, **__: ops.cast(variable, "float32"), dtype="float32", name="master"
        )


def _value(variable: Any) -> Array:
    """A variable's value, which the step takes; Keras' own conversion gives variables on TensorFlow back as they are."""
    if keras.backend.backend() != "tensorflow":
        return ops.convert_to_tensor(variable)
    import tensorflow as tf

    return tf.convert_to_tensor(variable)


def small(model: keras.Model) -> list[keras.Variable]:
    """The trainable variables of fewer than two dimensions: biases and what normalization scales by, whatever their names."""
    return [variable for variable in model.trainable_variables if len(variable.shape) < 2]


def exactly(variables: Sequence[keras.Variable]) -> tuple[str, ...]:
    """Regular expressions that match the paths of these variables alone."""
    return tuple(f"^{re.escape(variable.path)}$" for variable in variables)


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether any regular expression is found in a path."""
    return any(re.search(pattern, path) for pattern in patterns)


def bias_correction(beta: float, step: Scalar) -> Scalar:
    """1 - beta^step, exact in float32 at the first steps too, where a power near 1 would lose half of the digits."""
    return -ops.expm1(step * math.log(beta)) if beta else ops.ones_like(step)
