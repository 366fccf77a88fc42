"""The programs: one optimizer step of one replica, several of them in one dispatch, and the counting of evaluation batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from convoy.data.pipeline import Batch
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import copies, hidden, loss_scale
from convoy.trainer.engines.jax.devices import AXIS
from convoy.trainer.layers import drawing
from convoy.trainer.losses.build import Loss
from convoy.trainer.losses.cross_entropy import cross_entropy, is_correct

WHOLE, SHARED = PartitionSpec(), PartitionSpec(AXIS)


class State(NamedTuple):
    """Everything that the next step depends on, besides the position; the same on every replica."""

    trainable: list[Any]
    other: list[Any]  # the model's variables that are not trained
    optimizer: list[Any]
    average: list[Any]  # of the weights, with --ema
    scale: list[Any]  # loss scale and good steps, with mixed_float16


class Outcome(NamedTuple):
    """Of one step: mean loss, examples right and norm of the gradient of the global batch; whether to go on."""

    loss: Any
    correct: Any
    norm: Any
    going: Any


def all_sum(tensor: Any) -> Any:
    """The sum over all replicas, which is also its own gradient."""
    return lax.psum(tensor, AXIS)


def to_floats(images: Any) -> Any:
    """uint8 -> floats in [0, 1], on the device."""
    return images.astype(keras.config.floatx()) / 255


def training_step(
    model: keras.Model,
    loss_of: Loss,
    optimizer: keras.optimizers.Optimizer,
    averaged: Callable[[State], list[Any]],
    config: RunConfig,
    sizes: list[int],
    merging: list[int],
) -> Callable[[State, Batch], tuple[State, Outcome]]:
    """What one replica does: its part of the gradient, one sum over all replicas, the update.

    The arithmetic is that of convoy.trainer.engines.tensorflow.step. `averaged(state)` gives the weights that --ema averages.
    `merging` are the places of those other variables that are made one over the replicas.
    """
    iterations = next(i for i, v in enumerate(optimizer.variables) if v is optimizer.iterations)
    kinds = [model.non_trainable_variables[index].aggregation for index in merging]
    decay, skips = float(np.float32(config.ema)), config.on_nan == "skip"

    def differentiated(trainable: Any, other: Any, batch: Batch, scale: Any) -> tuple[Any, tuple[Any, Any, Any]]:
        with drawing(config.seed, batch.positions), hidden.watching(model, config.model):
            logits, other, penalties = model.stateless_call(
                trainable, other, to_floats(batch.images), training=True, return_losses=True
            )
        losses = loss_of(logits, batch.labels, batch.label_weights)
        loss = jnp.sum(losses) / config.batch_size
        if penalties:
            loss += jnp.asarray(sum(penalties), loss.dtype) * (batch.images.shape[0] / config.batch_size)
        correct = jnp.sum(is_correct(logits, batch.labels, batch.label_weights), dtype=jnp.int32)
        return loss * scale.astype(loss.dtype), (loss, correct, other)

    differentiate = jax.grad(differentiated, has_aux=True)

    def part_of(state: State, sums: Any, batch: Batch) -> tuple[Any, Any]:
        """(the model's other variables, sums) after one more part of the batch."""
        scale = state.scale[0] if state.scale else jnp.ones((), jnp.float32)
        gradients, (loss, correct, other) = differentiate(state.trainable, state.other, batch, scale)
        return other, jax.tree.map(jnp.add, sums, (gradients, loss, correct))

    def batch_of(state: State, batch: Batch) -> tuple[Any, Any]:
        size, whole = sizes[0], sizes.count(sizes[0])
        nothing = jnp.zeros((), keras.config.floatx()), jnp.zeros((), jnp.int32)
        sums: Any = ([jnp.zeros_like(variable) for variable in state.trainable], *nothing)
        other = state.other
        if whole > 1:

            def add(carry: Any, part: Batch) -> tuple[Any, None]:
                return part_of(state._replace(other=carry[0]), carry[1], part), None

            parts = jax.tree.map(lambda one: one[: whole * size].reshape(whole, size, *one.shape[1:]), batch)
            (other, sums), _ = lax.scan(add, (other, sums), parts)
        else:
            other, sums = part_of(state, sums, jax.tree.map(lambda one: one[:size], batch))
        for _ in sizes[whole:]:
            tail = jax.tree.map(lambda one: one[whole * size :], batch)
            other, sums = part_of(state._replace(other=other), sums, tail)
        return other, sums

    def step(state: State, batch: Batch) -> tuple[State, Outcome]:
        other, (gradients, loss, correct) = batch_of(state, batch)
        gradients, loss, correct = _sum_over_replicas(gradients, loss, correct)
        old, new = ([some[index] for index in merging] for some in (state.other, other))
        if merging:
            replicas, first = lax.axis_size(AXIS), lax.axis_index(AXIS) == 0
            merged = copies.merge(kinds, old, new, all_sum, replicas, first)
            other = [*other]
            for index, value in zip(merging, merged, strict=True):
                other[index] = value
        if state.scale:
            gradients = [gradient / state.scale[0].astype(gradient.dtype) for gradient in gradients]
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients))
        if config.clip_norm:
            factor = config.clip_norm * jnp.minimum(1 / norm, 1 / config.clip_norm)
            gradients = [gradient * factor for gradient in gradients]
        trainable, variables = optimizer.stateless_apply(state.optimizer, gradients, state.trainable)
        done = State(trainable, other, variables, state.average, state.scale)
        if state.average:
            t = state.optimizer[iterations]
            averages = [_average(a, w, t, decay) for a, w in zip(state.average, averaged(done), strict=True)]
            done = done._replace(average=averages)
        sound, finite = jnp.isfinite(loss), jnp.isfinite(norm)
        if skips or state.scale:
            done = jax.tree.map(functools.partial(jnp.where, finite & sound), done, state)
            done.optimizer[iterations] = variables[iterations]  # the step is over, whether it changed anything or not
        going = jnp.ones((), bool) if skips else finite & sound
        if state.scale:
            scale, good = state.scale
            going = ~loss_scale.hopeless(scale, loss, norm) & (skips | sound)
            done = done._replace(scale=list(loss_scale.advance(scale, good, loss, norm)))
        return done, Outcome(loss, correct, norm, going)

    return step


def training_loop(step: Callable[[State, Batch], tuple[State, Outcome]], mesh: Any, chunk: int) -> Callable[..., Any]:
    """Steps over a chunk of batches in one dispatch: (state, going, batches [chunk, ...], first, count) -> (state, going,
    steps made, losses [chunk], norms [chunk], correct).

    `first` and `count` are numbers on the device: no length is compiled twice. A step after which not to go on ends the loop,
    and a loop that may not go on makes no step, so that chunks are dispatched without waiting for one another.
    """

    def loop(state: State, going: Any, batches: Batch, first: Any, count: Any) -> tuple[Any, ...]:
        def body(carry: Any) -> Any:
            index, state, _, losses, norms, correct = carry
            batch = jax.tree.map(lambda one: lax.dynamic_index_in_dim(one, first + index, keepdims=False), batches)
            state, outcome = step(state, batch)
            losses, norms = losses.at[index].set(outcome.loss), norms.at[index].set(outcome.norm)
            return index + 1, state, outcome.going, losses, norms, correct + outcome.correct

        floats = jnp.zeros(chunk, keras.config.floatx())
        start = (jnp.zeros((), jnp.int32), state, going, floats, floats, jnp.zeros((), jnp.int32))
        made, state, going, losses, norms, correct = lax.while_loop(
            lambda carry: (carry[0] < count) & carry[2], body, start
        )
        return state, going, made, losses, norms, correct

    specs = (WHOLE, WHOLE, PartitionSpec(None, AXIS), WHOLE, WHOLE)
    return jax.jit(
        jax.shard_map(loop, mesh=mesh, in_specs=specs, out_specs=WHOLE, check_vma=False), donate_argnums=(0, 1)
    )


def training_steps(step: Callable[[State, Batch], tuple[State, Outcome]], mesh: Any) -> Callable[..., Any]:
    """What `training_loop` gives, with a dispatch for each step.

    XLA's CPU backend computes a large step more slowly inside a loop, by more than dispatching it takes.
    """

    def one(state: State, batches: Batch, index: Any) -> tuple[State, Outcome]:
        return step(state, jax.tree.map(lambda one: lax.dynamic_index_in_dim(one, index, keepdims=False), batches))

    specs = (WHOLE, PartitionSpec(None, AXIS), WHOLE)
    compiled = jax.jit(
        jax.shard_map(one, mesh=mesh, in_specs=specs, out_specs=WHOLE, check_vma=False), donate_argnums=0
    )

    def steps(state: State, going: Any, batches: Batch, first: Any, count: Any) -> tuple[Any, ...]:
        made: list[Outcome] = []
        # Whether there is a next step is known only when this one is over.
        while going and len(made) < count:
            state, outcome = compiled(state, batches, first + np.int32(len(made)))
            made.append(outcome)
            going = bool(outcome.going)
        losses, norms = (np.array([float(each[k]) for each in made]) for k in (0, 2))
        return state, going, len(made), losses, norms, sum(int(outcome.correct) for outcome in made)

    return steps


def evaluation_step(model: keras.Model, mesh: Any, classes: int) -> Callable[..., Any]:
    """(trainable, other, images, labels, weights) -> (loss, count, right, top five, per class: count, predicted, hit)."""

    def count(trainable: Any, other: Any, images: Any, labels: Any, weights: Any) -> tuple[Any, ...]:
        logits, _ = model.stateless_call(trainable, other, to_floats(images), training=False)
        logits = logits.astype(keras.config.floatx())
        inside = weights.astype(jnp.int32)
        guesses = jnp.argmax(logits, axis=-1)
        hits = inside * (guesses == labels)
        own = jnp.take_along_axis(logits, labels[:, None], axis=1)
        top5 = inside * ((jnp.sum(logits > own, axis=1) < min(5, classes)) & jnp.isfinite(own[:, 0]))

        def per_class(values: Any, of: Any) -> Any:
            return jnp.zeros(classes, jnp.int32).at[of].add(values)

        sums = (
            jnp.sum(cross_entropy(logits, labels) * weights.astype(logits.dtype)),
            *(jnp.sum(one, dtype=jnp.int32) for one in (inside, hits, top5)),
            per_class(inside, labels),
            per_class(inside, guesses),
            per_class(hits, labels),
        )
        return jax.tree.map(all_sum, sums)

    specs = (WHOLE, WHOLE, SHARED, SHARED, SHARED)
    return jax.jit(jax.shard_map(count, mesh=mesh, in_specs=specs, out_specs=WHOLE, check_vma=False))


def _sum_over_replicas(gradients: list[Any], loss: Any, correct: Any) -> tuple[list[Any], Any, Any]:
    """The sums over all replicas, in one collective: everything travels in one vector."""
    if lax.axis_size(AXIS) == 1:
        return gradients, loss, correct
    pieces = [gradient.astype(loss.dtype).ravel() for gradient in gradients]
    vector = all_sum(jnp.concatenate([*pieces, loss[None], correct.astype(loss.dtype)[None]]))
    borders = np.cumsum([piece.size for piece in pieces])
    *flat, rest = jnp.split(vector, borders)
    summed = [
        piece.reshape(gradient.shape).astype(gradient.dtype) for piece, gradient in zip(flat, gradients, strict=True)
    ]
    return summed, rest[0], jnp.round(rest[1]).astype(correct.dtype)


def _average(average: Any, weight: Any, step: Any, decay: float) -> Any:
    """See convoy.trainer.engines.tensorflow.average."""
    t = step.astype(weight.dtype)
    return average - (1 - jnp.minimum(jnp.asarray(decay, weight.dtype), (1 + t) / (10 + t))) * (average - weight)
