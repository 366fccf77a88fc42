"""--lookahead: slow weights that follow any optimizer's, and lead them back every few steps (Zhang et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from convoy.data.arrays import Array
from convoy.trainer.engines import patches
from convoy.trainer.flags.lookahead import LookaheadSpec


def install(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable], spec: LookaheadSpec) -> None:
    """Gives a built optimizer slow weights (Zhang et al. 2019, arXiv:1907.08610, algorithm 1).

    They begin where the variables are. After every `spec.interval` steps slow <- slow + spec.alpha * (variable - slow), and the
    variable becomes slow. What the optimizer itself remembers stays as it is. Evaluations take the slow weights.

    Args:
      optimizer: changed in place; the slow weights are variables of it.
      variables: that it was built for, in their order.
      spec: of --lookahead.
    """
    slow = [_copy(optimizer, variable) for variable in variables]

    def slow_of(variable: keras.Variable) -> keras.Variable:
        return slow[optimizer._get_variable_index(variable)]

    def follow(trained: Sequence[keras.Variable]) -> None:
        meets = ops.equal((optimizer.iterations + 1) % spec.interval, 0)
        for variable in trained:
            fast, behind = ops.convert_to_tensor(variable), ops.convert_to_tensor(slow_of(variable))
            met = behind + spec.alpha * (fast - behind)
            optimizer.assign(slow_of(variable), ops.where(meets, met, behind))
            optimizer.assign(variable, ops.where(meets, met, fast))

    def evaluation_value(variable: keras.Variable) -> Array:
        is_known = optimizer._var_key(variable) in optimizer._trainable_variables_indices
        return ops.convert_to_tensor(slow_of(variable) if is_known else variable)

    patches.after_updates(optimizer, follow)
    optimizer.evaluation_value = evaluation_value


def _copy(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> keras.Variable:
    def as_it_is(*_: object, **__: object) -> Array:
        return ops.convert_to_tensor(variable)

    return optimizer.add_variable_from_reference(variable, "slow", initializer=as_it_is)
