"""One optimizer step of one replica, in the order in which it happens. convoy.trainer.engines.tensorflow.step has the same
outline, function by function, and the same arithmetic."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from convoy.data.pipeline import Batch
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import copies, hidden, loss_scale, scopes
from convoy.trainer.engines.buckets import buckets
from convoy.trainer.engines.jax.devices import AXIS
from convoy.trainer.engines.parts import Parts
from convoy.trainer.engines.stages import Stage, stepping
from convoy.trainer.engines.variables import evaluation_values
from convoy.trainer.layers import drawing
from convoy.trainer.losses.cross_entropy import is_correct


class State(NamedTuple):
    """Everything that the next step depends on, besides the position; the same on every replica."""

    trainable: list[jax.Array]
    other: list[jax.Array]  # the model's variables that are not trained
    optimizer: list[jax.Array]
    average: list[jax.Array]  # of the weights that evaluations take, if there is one
    scale: list[jax.Array]  # loss scale and good steps, with mixed_float16


class Sums(NamedTuple):
    """Of a batch or a part of it: gradients of its share of the batch's mean loss, that share, the correct examples, and with
    --noise_scale the squared norms of the gradients of its parts, summed (convoy.trainer.noise_scale)."""

    gradients: list[jax.Array]
    loss: jax.Array
    correct: jax.Array
    squares: list[jax.Array]  # a number, or none


class Outcome(NamedTuple):
    """Of one step: mean loss and correct examples of the global batch, norm of its gradient, whether to go on, `squares`."""

    loss: jax.Array
    correct: jax.Array
    norm: jax.Array
    going: jax.Array
    squares: list[jax.Array]


def all_sum(tensor: jax.Array) -> jax.Array:
    """The sum over all replicas, which is also its own gradient."""
    return lax.psum(tensor, AXIS)


def squared_norm(gradients: list[jax.Array]) -> jax.Array:
    """Of all gradients together."""
    return sum(jnp.sum(jnp.square(gradient)) for gradient in gradients)


def to_floats(images: jax.Array) -> jax.Array:
    """uint8 -> floats in [0, 1], on the device; features, which are floats, as they are."""
    return images if jnp.issubdtype(images.dtype, jnp.floating) else images.astype(keras.config.floatx()) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingStep:
    """(state, this replica's share of a batch) -> (state, outcome).

    The step belongs to `stage`. A replica's batch comes in microbatches of `microbatch_sizes` examples.
    """

    parts: Parts
    config: RunConfig
    stage: Stage
    microbatch_sizes: list[int]

    def __call__(self, state: State, batch: Batch) -> tuple[State, Outcome]:
        other, sums = self.accumulated_gradients(state, batch)
        # The scopes are for a profile; no number depends on them.
        with jax.named_scope(scopes.GRADIENT_SUM):
            sums = self.reduce(sums)
            other = self.merge(state.other, other)
        with jax.named_scope(scopes.CLIPPING):
            gradients, norm = self.clip(state, sums.gradients)
        with jax.named_scope(scopes.OPTIMIZER):
            updated = self.apply(state, other, gradients)
        with jax.named_scope(scopes.AVERAGE):
            updated = self.average(state, updated)
        with jax.named_scope(scopes.GUARDS):
            updated, going = self.decide(state, updated, sums.loss, norm)
        return updated, Outcome(sums.loss, sums.correct, norm, going, sums.squares)

    def microbatch_gradients(self, state: State, batch: Batch) -> tuple[list[jax.Array], Sums]:
        """(the model's other variables after it, sums of it).

        The loss of every microbatch is a sum divided by the global batch, so that adding up microbatches and replicas gives
        the gradient of the global batch's mean, also when the last microbatch is shorter. Penalties of layers count once a
        batch, spread over microbatches and replicas by their size.
        """
        parts, config = self.parts, self.config
        scale = state.scale[0] if state.scale else jnp.ones((), jnp.float32)

        def scaled_loss(trained: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array, list[jax.Array]]]:
            trainable = [*state.trainable]
            for index, value in zip(self.stage.indices, trained, strict=True):
                trainable[index] = value
            with (
                drawing(config.seed, batch.positions),
                stepping(self.stage),
                hidden.watching(parts.model, config.model),
            ):
                logits, other, penalties = parts.model.stateless_call(
                    trainable, state.other, to_floats(batch.images), training=True, return_losses=True
                )
            with jax.named_scope(scopes.LOSS):
                losses = parts.loss(logits, batch.labels, batch.label_weights)
                loss = jnp.sum(losses) / self.stage.batch_size
            if penalties:
                loss += jnp.asarray(sum(penalties), loss.dtype) * (batch.images.shape[0] / self.stage.batch_size)
            with jax.named_scope(scopes.METRICS):
                correct = jnp.sum(is_correct(logits, batch.labels, batch.label_weights), dtype=jnp.int32)
            return loss * scale.astype(loss.dtype), (loss, correct, other)

        gradients, (loss, correct, other) = jax.grad(scaled_loss, has_aux=True)(self._trained(state))
        squares = []
        if config.noise_scale:
            squares = [(squared_norm(gradients) / jnp.square(scale)).astype(keras.config.floatx())]
        return other, Sums(gradients, loss, correct, squares)

    def accumulated_gradients(self, state: State, batch: Batch) -> tuple[list[jax.Array], Sums]:
        """The same after all microbatches, each of which sees the other variables that the one before has left."""
        size, full = self.microbatch_sizes[0], self.microbatch_sizes.count(self.microbatch_sizes[0])

        def add(carry: tuple[list[jax.Array], Sums], microbatch: Batch) -> tuple[tuple[list[jax.Array], Sums], None]:
            other, sums = carry
            other, more = self.microbatch_gradients(state._replace(other=other), microbatch)
            return (other, jax.tree.map(jnp.add, sums, more)), None

        zeros = [jnp.zeros_like(variable) for variable in self._trained(state)]
        zero = jnp.zeros((), keras.config.floatx())
        carry = state.other, Sums(zeros, zero, jnp.zeros((), jnp.int32), [zero] if self.config.noise_scale else [])
        if full > 1:
            microbatches = jax.tree.map(lambda x: x[: full * size].reshape(full, size, *x.shape[1:]), batch)
            carry, _ = lax.scan(add, carry, microbatches)
        else:
            carry, _ = add(carry, jax.tree.map(lambda x: x[:size], batch))
        if len(self.microbatch_sizes) > full:
            carry, _ = add(carry, jax.tree.map(lambda x: x[full * size :], batch))
        return carry

    def reduce(self, sums: Sums) -> Sums:
        """The sums over all replicas, in --gradient_buckets collectives: each takes one vector, as soon as it is there."""
        if lax.axis_size(AXIS) == 1:
            return sums
        gradients, loss, correct, squares = sums
        numbers = jnp.stack([loss, correct.astype(loss.dtype), *squares])
        summed = [*gradients]
        travels = jnp.bfloat16 if self.config.gradient_dtype == "bfloat16" else loss.dtype
        sizes = [gradient.size for gradient in gradients]
        groups = buckets(sizes, self.config.gradient_buckets, self.config.generation)
        for group in groups:
            pieces = [gradients[index].astype(travels).ravel() for index in group]
            with_numbers = group is groups[-1] and travels == loss.dtype
            vector = all_sum(jnp.concatenate([*pieces, numbers] if with_numbers else pieces))
            *pieces, rest = jnp.split(vector, np.cumsum([piece.size for piece in pieces]))
            numbers = rest if with_numbers else numbers
            for index, piece in zip(group, pieces, strict=True):
                summed[index] = piece.reshape(gradients[index].shape).astype(gradients[index].dtype)
        if travels != loss.dtype:  # which would lose the count of correct examples
            numbers = all_sum(numbers)
        squares = [numbers[2] for _ in squares]
        return Sums(summed, numbers[0], jnp.round(numbers[1]).astype(correct.dtype), squares)

    def merge(self, before: list[jax.Array], other: list[jax.Array]) -> list[jax.Array]:
        """The model's other variables, made one over the replicas where their layers ask for it."""
        variables = self.parts.model.non_trainable_variables
        merged = [index for index in self.parts.merged if id(variables[index]) not in self.stage.still]
        if not merged:
            return other
        values = copies.merge(
            [self.parts.merged[index] for index in merged],
            [before[index] for index in merged],
            [other[index] for index in merged],
            all_sum,
            lax.axis_size(AXIS),
            lax.axis_index(AXIS) == 0,
        )
        other = [*other]
        for index, value in zip(merged, values, strict=True):
            other[index] = value
        return other

    def clip(self, state: State, gradients: list[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        """(gradients, their norm before clipping), without the loss scale: a replica on its own could not know whether the
        gradient of the global batch is finite, and the norm to clip is that of the global batch's."""
        if state.scale:
            gradients = [gradient / state.scale[0].astype(gradient.dtype) for gradient in gradients]
        norm = jnp.sqrt(squared_norm(gradients))
        if clipping := self.parts.adaptive_clipping:
            gradients = clipping(gradients, self._trained(state), self.stage.indices)
        if self.config.clip_norm:
            factor = self.config.clip_norm * jnp.minimum(1 / norm, 1 / self.config.clip_norm)
            gradients = [gradient * factor for gradient in gradients]
        return gradients, norm

    def apply(self, state: State, other: list[jax.Array], gradients: list[jax.Array]) -> State:
        """The state after the optimizer's update."""
        optimizer, trainable = self.parts.optimizer, self.parts.model.trainable_variables
        # Keras' stateless_apply, which takes gradients of all variables only.
        with self._holding(state) as scope:
            optimizer.apply(gradients, self.stage.trained)
        values = [[scope.get_current_value(v) for v in variables] for variables in (trainable, optimizer.variables)]
        return State(values[0], other, values[1], state.average, state.scale)

    def average(self, state: State, updated: State) -> State:
        """average <- d * average + (1 - d) * weights with d = min(--ema, (1 + t) / (10 + t)) at step t.

        With --batch_ramp t are full steps, and d is raised to the batch's share of --batch_size: it counts examples. The
        smaller decay at the start keeps the first weights from lingering (tf.train.ExponentialMovingAverage, num_updates).
        The weights are those that the optimizer wants evaluated.
        """
        if not state.average:
            return updated
        with self._holding(updated):
            weights = evaluation_values(self.parts.optimizer, self.parts.averaged_variables)
        if not self.config.ema:
            return updated._replace(average=weights)
        step, limit = state.optimizer[self._iterations], float(np.float32(self.config.ema))
        fraction = self.stage.batch_size / self.config.batch_size

        def average(average: jax.Array, weight: jax.Array) -> jax.Array:
            t = self.parts.schedule.full_steps(step.astype(weight.dtype))
            decay = jnp.minimum(jnp.asarray(limit, weight.dtype), (1 + t) / (10 + t))
            decay = decay if fraction == 1 else decay**fraction
            return average - (1 - decay) * (average - weight)

        averages = [
            before if id(variable) in self.stage.still else average(before, weight)
            for variable, before, weight in zip(self.parts.averaged_variables, state.average, weights, strict=True)
        ]
        return updated._replace(average=averages)

    def decide(self, state: State, updated: State, loss: jax.Array, norm: jax.Array) -> tuple[State, jax.Array]:
        """(state, whether to go on): a step that is skipped leaves the state as it was, but for the count of steps."""
        skips = self.config.on_nan == "skip"
        sound, finite = jnp.isfinite(loss), jnp.isfinite(norm)
        if skips or state.scale:
            iterations = updated.optimizer[self._iterations]
            updated = jax.tree.map(functools.partial(jnp.where, finite & sound), updated, state)
            updated.optimizer[self._iterations] = iterations
        going = jnp.ones((), bool) if skips else finite & sound
        if state.scale:
            scale, good_steps = state.scale
            going = ~loss_scale.hopeless(scale, loss, norm) & (skips | sound)
            updated = updated._replace(scale=list(loss_scale.advance(scale, good_steps, loss, norm)))
        return updated, going

    def _holding(self, state: State) -> keras.StatelessScope:
        """Within, the variables of model and optimizer have the values of a state."""
        model = self.parts.model
        variables = [*model.trainable_variables, *model.non_trainable_variables, *self.parts.optimizer.variables]
        values = [*state.trainable, *state.other, *state.optimizer]
        return keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True)))

    def _trained(self, state: State) -> list[jax.Array]:
        return [state.trainable[index] for index in self.stage.indices]

    @functools.cached_property
    def _iterations(self) -> int:
        """The place of the count of steps among the optimizer's variables."""
        optimizer = self.parts.optimizer
        return next(i for i, variable in enumerate(optimizer.variables) if variable is optimizer.iterations)
