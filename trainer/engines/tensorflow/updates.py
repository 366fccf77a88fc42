"""Updates of Keras' optimizers as single operations of TensorFlow's: one pass over memory instead of one for each term."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf

from convoy.data.arrays import Array, Scalar
from convoy.trainer.engines.updates import Operations

Variable: TypeAlias = keras.Variable | tf.Variable


def operations(optimizer: keras.optimizers.Optimizer) -> Operations | None:
    """Those of an optimizer; None where TensorFlow has none."""
    if type(optimizer) is keras.optimizers.SGD and optimizer.momentum:
        return Operations(functools.partial(_sgd, optimizer), _decay)
    if type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad:
        return Operations(functools.partial(_adam, optimizer), _decay)
    return None


def _sgd(optimizer: keras.optimizers.SGD, gradient: tf.Tensor, variable: Variable, rate: Scalar) -> None:
    number = _numbers_of(variable)
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=_handle(variable),
        accum=_handle(optimizer.momentums[optimizer._get_variable_index(variable)]),
        lr=number(rate),
        grad=number(gradient),
        momentum=number(optimizer.momentum),
        use_nesterov=optimizer.nesterov,
    )


def _adam(optimizer: keras.optimizers.Adam, gradient: tf.Tensor, variable: Variable, rate: Scalar) -> None:
    number = _numbers_of(variable)
    index, step = optimizer._get_variable_index(variable), number(optimizer.iterations + 1)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(optimizer._momentums[index]),
        v=_handle(optimizer._velocities[index]),
        beta1_power=number(optimizer.beta_1) ** step,
        beta2_power=number(optimizer.beta_2) ** step,
        lr=number(rate),
        beta1=number(optimizer.beta_1),
        beta2=number(optimizer.beta_2),
        epsilon=number(optimizer.epsilon),
        grad=number(gradient),
    )


def _decay(variable: Variable, factor: Scalar) -> None:
    number = _numbers_of(variable)
    tf.raw_ops.ResourceApplyGradientDescent(var=_handle(variable), alpha=number(factor), delta=number(variable))


def _numbers_of(variable: Variable) -> Callable[[Array | Scalar | Variable], tf.Tensor]:
    """A number, or a variable -> the same in the type of `variable`."""
    return lambda number: tf.cast(number.value if isinstance(number, keras.Variable) else number, variable.dtype)


def _handle(variable: Variable) -> tf.Tensor:
    """Of this replica's copy."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
