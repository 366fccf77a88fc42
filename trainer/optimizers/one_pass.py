"""An optimizer whose step is one function of all variables."""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import keras
from keras import ops

from convoy.data.arrays import Array, Scalar
from convoy.trainer.optimizers.groups import Treatment

# Paths of variables, as regular expressions.
BIASES_AND_NORMALIZATION = (r"(^|/)(bias|gamma|beta)$",)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Treated:
    """What is special about a variable.

    Attributes:
      rate: a factor of the learning rate.
      decay: weight decay.
      first_step: bias corrections count from it.
    """

    rate: float = 1.0
    decay: float = 0.0
    first_step: int = 0

    def given(self, weight: Array, gradient: Array, slots: Sequence[Array], rate: Scalar, steps: Scalar) -> Given:
        """What a step is given of the variable, at a learning rate and after so many steps of the run."""
        gradient, rate, steps = (
            ops.cast(number, weight.dtype) for number in (gradient, rate, steps + 1 - self.first_step)
        )
        return Given(weight, gradient, slots, rate * self.rate, steps, self.decay)


class Given(NamedTuple):
    """What a step is given of one variable: floats of one type, the arrays of one shape.

    Attributes:
      weight, gradient, slots: arrays.
      rate: its learning rate, a scalar.
      step: the number of its step, from 1 on, a scalar.
      decay: its weight decay.
    """

    weight: Array
    gradient: Array
    slots: Sequence[Array]
    rate: Scalar
    step: Scalar
    decay: float


Updated = tuple[Array, list[Array]]  # a weight and its slots, after a step


class OnePass(keras.optimizers.Optimizer, abc.ABC):
    """An optimizer whose step is one function of all variables. Subclasses write it for one variable, in `update_variable`.

    On TensorFlow XLA compiles the function, so that memory is passed over as seldom as can be; on JAX it is part of the
    caller's program. Weight decay is part of the function too. Variables of 16 bits have a master copy in float32, and slots of
    float32.

    Args:
      learning_rate: a number or a Keras schedule.
      weight_decay: 0 or more.
      exclude_from_weight_decay: regular expressions, searched in variables' paths.
      **options: of keras.optimizers.Optimizer.
    """

    slots: ClassVar[tuple[str, ...]]

    def __init__(
        self, learning_rate: Any, weight_decay: float, exclude_from_weight_decay: Sequence[str], **options: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **options)
        self.not_decayed = tuple(exclude_from_weight_decay)

    @abc.abstractmethod
    def update_variable(self, given: Given) -> Updated:
        """The weight of a variable and its slots after a step."""

    def update_variables(self, indices: Sequence[int], every: Sequence[Given]) -> list[Updated]:
        """The same of several. For subclasses whose variables go better together.

        Args:
          indices: of the variables, in the order in which they were built.
          every: of each.
        """
        return [self.update_variable(given) for given in every]

    def add_slots(self, variable: keras.Variable, reference: keras.Variable) -> list[keras.Variable]:
        """The slots of one variable, all 0. `reference` has their shape and type: the variable, or its master copy."""
        return [self.add_variable_from_reference(reference, name) for name in self.slots]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Adds the slots, all 0."""
        if self.built:
            return
        super().build(variables)
        self._masters = [self._master(variable) for variable in variables]
        self._slots = [self.add_slots(variable, self._stored(i, variable)) for i, variable in enumerate(variables)]
        self._treated = [Treated(decay=self.weight_decay if self._decays(variable) else 0.0) for variable in variables]
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
        stored = [self._stored(index, variable) for index, variable in zip(indices, variables, strict=True)]
        slots = [self._slots[index] for index in indices]
        updated = self._step(indices)(
            [_value(holder) for holder in stored],
            [_value(gradient) for gradient in gradients],
            [[_value(slot) for slot in of_one] for of_one in slots],
            _value(learning_rate),
            _value(self.iterations),
        )
        for variable, holder, of_one, (weight, values) in zip(variables, stored, slots, updated, strict=True):
            for slot, value in zip((holder, *of_one), (weight, *values), strict=True):
                self.assign(slot, value)
            if holder is not variable:
                self.assign(variable, ops.cast(weight, variable.dtype))

    def _step(self, indices: tuple[int, ...]) -> Callable[..., Any]:
        if indices not in self._steps:
            self._steps[indices] = self._build_step(indices)
        return self._steps[indices]

    def _build_step(self, indices: tuple[int, ...]) -> Callable[..., list[Updated]]:
        """(weights, gradients, slots, learning rate, steps made) of some variables -> each after a step.

        Compiled where no program of the caller's is sure to compile it.
        """
        treated = [self._treated[index] for index in indices]

        def step(
            weights: list[Array], gradients: list[Array], slots: list[list[Array]], rate: Scalar, steps: Scalar
        ) -> list[Updated]:
            each = zip(treated, weights, gradients, slots, strict=True)
            return self.update_variables(indices, [t.given(w, g, of_one, rate, steps) for t, w, g, of_one in each])

        return compiled(step)

    def _stored(self, index: int, variable: Any) -> Any:
        """What holds a variable's value in 32 bits or more: its master copy, or the variable itself."""
        return variable if self._masters[index] is None else self._masters[index]

    def _decays(self, variable: keras.Variable) -> bool:
        return self._use_weight_decay(variable) and not matches(self.not_decayed, variable.path)

    def _master(self, variable: keras.Variable) -> keras.Variable | None:
        if keras.backend.standardize_dtype(variable.dtype) not in ("float16", "bfloat16"):
            return None
        return self.add_variable(
            variable.shape, lambda *_, **__: ops.cast(variable, "float32"), dtype="float32", name="master"
        )


def compiled(step: Callable[..., T]) -> Callable[..., T]:
    """A function of tensors, compiled by XLA on TensorFlow; as it is elsewhere, where the caller compiles."""
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf

    return tf.function(step, autograph=False, jit_compile=True)


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
