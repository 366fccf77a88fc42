"""Variables that layers write while the model is called: merged over the replicas as the layer asks, or refused.

A replica sees only its share of a batch, so a layer measures something else on each replica, but a checkpoint holds one copy.
Keras' name for the remedy is `aggregation`; it is carried out here once a step, the same on every engine. Without it the
copies must be equal by themselves, as a count of steps is.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NoReturn

import keras
import numpy as np
from keras import ops

from convoy import exits
from convoy.data.arrays import Array, Flag
from convoy.trainer.engines.normalization import AllSum
from convoy.trainer.engines.protocol import Engine


def merged_variables(model: keras.Model, replicas: int, moving: Collection[keras.Variable] = ()) -> dict[int, str]:
    """Which of `model.non_trainable_variables` are merged over the replicas after every step: index -> how (`merge`).

    Args:
      model: whose layers are called by every replica with its own share of the batch.
      replicas: their number.
      moving: variables whose mean over the replicas is taken, whatever they ask for.

    Raises:
      exits.CannotRun: a variable asks for an aggregation that its type does not have.
    """
    if replicas == 1:
        return {}
    merged, means = {}, {id(variable) for variable in moving}
    for index, variable in enumerate(model.non_trainable_variables):
        kind = "mean" if id(variable) in means else variable.aggregation
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if (kind == "mean" and not keras.backend.is_float_dtype(dtype)) or (kind == "sum" and dtype == "bool"):
            raise exits.CannotRun(
                f'the variable {variable.path} asks for aggregation="{kind}", which {dtype} does not have; make it a float,'
                ' or give "only_first_replica".'
            )
        if variable.synchronization == "on_read":
            raise exits.CannotRun(
                f'the variable {variable.path} has synchronization="on_read", which leaves every replica its own; leave that'
                " out."
            )
        if kind != "none":
            merged[index] = kind
    return merged


def merge(
    kinds: Sequence[str], old: Sequence[Array], new: Sequence[Array], all_sum: AllSum, replicas: int, is_first: Flag
) -> list[Array]:
    """Tensors that are the same on every replica, from this replica's own.

    Args:
      kinds: of each tensor. "mean": the mean over replicas; "sum": the old value plus what every replica added to it;
        "only_first_replica": the first replica's.
      old: tensors before the step, the same on every replica.
      new: tensors after it.
      all_sum: sums over the replicas, called once for all tensors of a type.
      replicas: their number.
      is_first: whether this replica is the first.
    """
    carried: dict[str, list[int]] = {}
    sent = []
    for index, (kind, before, after) in enumerate(zip(kinds, old, new, strict=True)):
        carrier = _carrier(keras.backend.standardize_dtype(after.dtype))
        carried.setdefault(carrier, []).append(index)
        value = ops.reshape(ops.cast(after, carrier), [-1])
        if kind == "sum":
            value = value - ops.reshape(ops.cast(before, carrier), [-1])
        elif kind == "only_first_replica":
            value = ops.where(is_first, value, ops.zeros_like(value))
        sent.append(value)
    merged: dict[int, Array] = {}
    for carrier, indices in carried.items():
        vector, start = all_sum(ops.concatenate([sent[index] for index in indices])), 0
        for index in indices:
            size = int(np.prod(new[index].shape, dtype=np.int64))
            value = ops.reshape(vector[start : start + size], new[index].shape)
            start += size
            if kinds[index] == "mean":
                value = value / replicas
            elif kinds[index] == "sum":
                value = value + ops.cast(old[index], carrier)
            merged[index] = ops.cast(value, new[index].dtype)
    return [merged[index] for index in range(len(kinds))]


def _carrier(dtype: str) -> str:
    """The type in which tensors of `dtype` travel: collectives know it."""
    if dtype in ("float16", "bfloat16"):
        return "float32"
    return dtype if dtype in ("float32", "float64", "int64") else "int64" if dtype == "uint64" else "int32"


def first_difference(copies: Iterable[tuple[str, list[np.ndarray]]], engine: Engine) -> str | None:
    """The name of the first variable that differs between replicas, the same in every process; None if none does.

    Args:
      copies: (name, a copy for each replica of this process), in the same order in every process.
      engine: through which the processes agree.
    """
    names, digests, differs = [], [], []
    several = engine.cluster.processes > 1
    for name, (first, *others) in copies:
        names.append(name)
        own = _bytes(first)
        differs.append(any(not np.array_equal(_bytes(other), own) for other in others))
        if several:
            digests.append(zlib.crc32(own.data))
    if several:
        of_leader = np.frombuffer(engine.broadcast(np.array(digests, "<u4").tobytes()), "<u4")
        differs = [
            here or digest != expected for here, digest, expected in zip(differs, digests, of_leader, strict=True)
        ]
    if not engine.any(any(differs)):
        return None
    # Seldom: variable by variable, so that all processes learn which it is.
    return next(name for name, here in zip(names, differs, strict=True) if engine.any(here))


def _bytes(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def refuse(model: keras.Model, name: str, path: str, replicas: int) -> NoReturn:
    """Raises CannotRun for the model `name`, whose variable at `path` differs between replicas."""
    layer, variable = next((layer, v) for layer, v in _owned(model) if v.path == path)
    what = f"--model={name}: the layer {layer.name} ({type(layer).__name__}) writes its variable {path}"
    if variable.trainable:
        raise exits.CannotRun(
            f"{what}, which is trained, otherwise on each of {replicas} devices; train on one device, or leave that"
            " out."
        )
    kinds = '"mean", "sum" or "only_first_replica"'
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not keras.backend.is_float_dtype(dtype):
        kinds = '"only_first_replica"' if dtype == "bool" else '"sum" or "only_first_replica"'
    raise exits.CannotRun(
        f"{what} otherwise on each of {replicas} devices, and a checkpoint holds one of them; say in add_weight what is"
        f" to become of them, aggregation={kinds}, or train on one device."
    )


def _owned(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, keras.Variable]]:
    """(innermost layer that has it, variable) for every variable of a model."""
    for layer in reversed(model._flatten_layers()):
        generators = [generator.state for generator in layer._seed_generators]
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables, *generators]:
            yield layer, variable
