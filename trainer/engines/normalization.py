"""BatchNormalization over the whole batch, over each replica's share of it, or over groups; one collective each way at most."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from typing import NamedTuple

import keras
from keras import ops

from convoy import exits
from convoy.counting import counted
from convoy.data.arrays import Array
from convoy.trainer.engines import patches, stages
from convoy.trainer.flags.specs import BatchNormSpec

AllSum = Callable[[Array], Array]  # a tensor of one replica -> the sum over all replicas, differentiable


class Normalized(NamedTuple):
    """What a layer makes of a replica's inputs in training.

    Attributes:
      outputs: in the type of the inputs.
      mean, variance: floats [channels] of the inputs, of which no gradient is taken; the variance is divided by their count.
    """

    outputs: Array
    mean: Array
    variance: Array


# A backend's own way: (layer, inputs) -> what it makes of them, None of inputs that it does not compute.
Normalize = Callable[[keras.layers.BatchNormalization, Array], Normalized | None]


def layers_of(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The BatchNormalization layers of a model, at any depth."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def has_batch_normalization(model: keras.Model, frozen: Collection[int] = ()) -> bool:
    """Whether a model has any BatchNormalization that is not frozen; `frozen` are layers by `id`."""
    return any(id(layer) not in frozen for layer in layers_of(model))


def spans_replicas(model: keras.Model, spec: BatchNormSpec, replicas: int, frozen: Collection[int] = ()) -> bool:
    """Whether slices of a microbatch on several replicas share their statistics."""
    return spec.mode == "sync" and replicas > 1 and has_batch_normalization(model, frozen)


def largest_momentum(model: keras.Model) -> float | None:
    """Of the BatchNormalization layers of a model; None without one."""
    return max((layer.momentum for layer in layers_of(model)), default=None)


def install(
    model: keras.Model,
    spec: BatchNormSpec,
    all_sum: AllSum,
    replicas: int,
    frozen: Collection[int] = (),
    normalize: Normalize | None = None,
    merges: bool = False,
) -> list[keras.Variable]:
    """Applies --batchnorm to every BatchNormalization of a model that is not frozen for ever.

    The moving statistics are those of all replicas together in each mode, so that a replica's own never reach a checkpoint:
    each replica has moved its own, and the step is to take the mean of the variables that are returned, all in one collective.

    Args:
      model: changed in place.
      spec: of --batchnorm.
      all_sum: sums over the replicas.
      replicas: how many there are; all hold equally many examples.
      frozen: layers that are, by `id`.
      normalize: how a layer computes where all examples of a replica are normalized together; None: as Keras does. It moves
        this replica's statistics, so with several replicas it needs `merges`.
      merges: whether the step takes that mean. Without, there is a collective for each layer, and nothing is returned.
    """
    moving: list[keras.Variable] = []
    if spec.mode == "sync" and replicas == 1 and not normalize:
        return moving  # Keras' own is that
    for layer in layers_of(model):
        if id(layer) in frozen:
            continue
        if spec.mode == "sync" and replicas == 1 and normalize:
            otherwise = functools.partial(type(layer).call, layer)
            patches.replace_normalization(layer, functools.partial(_by_itself, layer, normalize, otherwise))
        elif spec.mode == "sync":
            patches.replace_moments(layer, functools.partial(_global_moments, layer, all_sum, replicas))
        else:
            if layer.renorm:
                raise exits.CannotRun(
                    f"--batchnorm={spec} is not built for the renormalization of the layer {layer.name}; use sync."
                )
            sums = (lambda tensor: tensor, 1) if merges else (all_sum, replicas)
            call = functools.partial(_grouped, layer, spec.group, *sums)
            if normalize and not spec.group:
                call = functools.partial(_by_itself, layer, normalize, call)
            patches.replace_normalization(layer, call)
            moving += [layer.moving_mean, layer.moving_variance] if merges else []
    return moving


def _by_itself(
    layer: keras.layers.BatchNormalization,
    normalize: Normalize,
    otherwise: Callable[..., Array],
    inputs: Array,
    training: bool | None = None,
    mask: Array | None = None,
) -> Array:
    """The layer's call with the statistics of this replica: the backend's own, or `otherwise` where it has none."""
    normalized = normalize(layer, inputs) if training and layer.trainable and mask is None else None
    if normalized is None:
        return otherwise(inputs, training=training, mask=mask)
    _move(layer, normalized.mean, normalized.variance)
    return normalized.outputs


def _move(layer: keras.layers.BatchNormalization, mean: Array, variance: Array) -> None:
    """Brings the moving statistics of a layer closer to those of a batch."""
    for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(ops.cast(moving, new.dtype) * layer.momentum + new * (1 - layer.momentum))


def _global_moments(
    layer: keras.layers.BatchNormalization, all_sum: AllSum, replicas: int, inputs: Array, mask: Array | None
) -> tuple[Array, Array]:
    """(mean, variance) [channels] over every axis but the layer's, of all replicas together.

    Keras' own synchronized=True sends sum, sum of squares and count one by one, and takes the variance as E[x^2] - E[x]^2,
    which loses its digits where the mean is large. Here sums are taken of x - s with s the moving mean, the same on all
    replicas and close to the mean, so that E[(x-s)^2] - E[x-s]^2 subtracts a small number (the shifted-data algorithm, Chan
    et al. 1983). Every replica has as many examples as the others, so the count need not travel.
    """
    _refuse_mask(layer, mask)
    channels = inputs.shape[layer.axis]
    shape = [1] * len(inputs.shape)
    shape[layer.axis] = channels
    shift = ops.stop_gradient(ops.cast(layer.moving_mean, inputs.dtype))
    shifted = inputs - ops.reshape(shift, shape)
    axes = layer._reduction_axes
    sums = ops.concatenate([ops.sum(shifted, axes), ops.sum(ops.square(shifted), axes)])
    averages = all_sum(sums) / (replicas * math.prod(inputs.shape) // channels)
    mean, square = averages[:channels], averages[channels:]
    return mean + shift, ops.maximum(square - ops.square(mean), 0)


def _grouped(
    layer: keras.layers.BatchNormalization,
    group: int,
    all_sum: AllSum,
    replicas: int,
    inputs: Array,
    training: bool | None = None,
    mask: Array | None = None,
) -> Array:
    """The layer's call with the statistics of each `group` of consecutive examples (0: all that this replica has).

    Ghost batch normalization (Hoffer et al. 2017, algorithm 1), but for the moving statistics: they take the mean of all
    groups at once, whatever replica these are on.
    """
    if not (training and layer.trainable):
        return type(layer).call(layer, inputs, training=training, mask=mask)
    _refuse_mask(layer, mask)
    x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))  # as Keras' own call
    examples = x.shape[0]
    group = group or examples
    if examples % group:
        stage = stages.current()
        of_batch = f" of a batch of {stage.batch_size}" if stage else ""
        raise exits.CannotRun(
            f"--batchnorm=ghost:{group} cannot cut the {counted(examples, 'example')} that a device has at once{of_batch};"
            f" give a divisor of {examples}, or change --batch_size, --batch_ramp or --accumulate."
        )
    axis = layer.axis % len(x.shape)
    x = ops.reshape(x, (examples // group, group, *x.shape[1:]))
    axes = [a for a in range(1, len(x.shape)) if a != axis + 1]
    mean = ops.mean(x, axes, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axes, keepdims=True)
    shape = [1] * len(x.shape)
    shape[axis + 1] = x.shape[axis + 1]
    factor = 1 / ops.sqrt(variance + layer.epsilon)
    if layer.scale:
        factor = factor * ops.reshape(ops.cast(layer.gamma, x.dtype), shape)
    y = (x - mean) * factor
    if layer.center:
        y = y + ops.reshape(ops.cast(layer.beta, x.dtype), shape)
    channels = shape[axis + 1]
    both = ops.concatenate([ops.reshape(ops.mean(moment, 0), (channels,)) for moment in (mean, variance)])
    both = all_sum(ops.stop_gradient(both)) / replicas
    _move(layer, both[:channels], both[channels:])
    return ops.cast(ops.reshape(y, inputs.shape), layer.compute_dtype)


def _refuse_mask(layer: keras.layers.BatchNormalization, mask: Array | None) -> None:
    if mask is not None:
        raise exits.CannotRun(
            f"the layer {layer.name} gets a mask, which only --devices=cpu:1 or gpu:1 can train with."
        )
