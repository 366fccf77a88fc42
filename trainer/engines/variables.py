"""The names under which variables are saved, the same on every engine, and refusals of what a checkpoint cannot hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from convoy import exits
from convoy.data.arrays import Array
from convoy.outside import printable
from convoy.trainer import layers
from convoy.trainer.checkpoints.snapshot import DTYPES

_SAVED = {dtype.name for dtype in DTYPES}


def check(model: keras.Model, optimizer: keras.optimizers.Optimizer, name: str) -> None:
    """Raises CannotRun for variables or masks that share a name, and for variables that checkpoints do not hold."""
    paths = [f"model/{v.path}" for v in model.variables] + [f"optimizer/{v.path}" for v in optimizer.variables]
    if twice := _first_twice(paths):
        raise exits.CannotRun(
            f"--model={name}: two variables are called {twice}, so a checkpoint could not tell them apart; give its layers"
            " different names."
        )
    if twice := _first_twice(layer.name for layer in layers.positional(model)):
        raise exits.CannotRun(
            f"--model={name}: two layers are called {twice} and would draw the same masks; give them different names."
        )
    for path, variable in zip(paths, [*model.variables, *optimizer.variables], strict=True):
        if keras.backend.standardize_dtype(variable.dtype) not in _SAVED:
            raise exits.CannotRun(
                f"--model={name}: the variable {path} is of type {variable.dtype}, which checkpoints do not hold; keep"
                " variables in float32, as --precision=mixed_bfloat16 does."
            )


def compare(shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]], state: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError, naming the tensor, for one that is missing, left over or of another shape or type than the run's.

    Integer types may differ, since the engines count in other ones, as long as the new type holds every number of the tensor:
    a cast would change numbers in silence. Other numbers are not looked at.
    """
    if odd := sorted(set(shapes) ^ set(state)):
        where = "the checkpoint lacks" if odd[0] in shapes else "the model lacks"
        raise ValueError(f"{where} the tensor {printable(odd[0])}")
    for name, (shape, dtype) in shapes.items():
        tensor = state[name]
        if shape != tensor.shape:
            raise ValueError(f"the tensor {name} has shape {tensor.shape}, the model needs {shape}")
        if dtype == tensor.dtype:
            continue
        if dtype.kind not in "iu" or tensor.dtype.kind not in "iu":
            raise ValueError(f"the tensor {name} is of type {tensor.dtype}, the model needs {dtype}")
        limits = np.iinfo(dtype)
        if tensor.size and not limits.min <= int(tensor.min()) <= int(tensor.max()) <= limits.max:
            raise ValueError(f"the tensor {name} holds a number that is none of {dtype}, which the model needs")


def averaged_variables(model: keras.Model, still: Collection[int] = ()) -> list[keras.Variable]:
    """The weights that an average holds: all floating ones but those that never change, `still`, by `id`.

    Statistics of BatchNormalization belong to the weights that they were measured with.
    """
    return [v for v in model.weights if keras.backend.is_float_dtype(v.dtype) and id(v) not in still]


def evaluation_values(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> list[Array]:
    """What an evaluation would take for variables without an average: what the optimizer says, or their values."""
    value_of = getattr(optimizer, "evaluation_value", ops.convert_to_tensor)
    return [value_of(variable) for variable in variables]


def trainable_numbers(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _first_twice(names: Iterable[str]) -> str | None:
    names = list(names)
    return next((name for name in sorted(names) if names.count(name) > 1), None)
