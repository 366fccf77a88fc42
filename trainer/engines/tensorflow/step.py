"""One optimizer step of one replica, in the order in which it happens. convoy.trainer.engines.jax.step has the same outline,
function by function, and the same arithmetic."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from convoy.data.pipeline import Batch
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import copies, scopes
from convoy.trainer.engines.buckets import buckets
from convoy.trainer.engines.parts import Parts
from convoy.trainer.engines.stages import Stage, stepping
from convoy.trainer.engines.tensorflow import undo
from convoy.trainer.engines.tensorflow.average import Average
from convoy.trainer.engines.tensorflow.scaling import LossScale
from convoy.trainer.engines.variables import evaluation_values
from convoy.trainer.layers import drawing
from convoy.trainer.losses.cross_entropy import is_correct


class Sums(NamedTuple):
    """Of a batch or a part of it: gradients of its share of the batch's mean loss, that share, the correct examples, and with
    --noise_scale the squared norms of the gradients of its parts, summed (convoy.trainer.noise_scale)."""

    gradients: list[tf.Tensor]
    loss: tf.Tensor
    correct: tf.Tensor
    squares: list[tf.Tensor]  # a number, or none


class Outcome(NamedTuple):
    """Of one step: mean loss and correct examples of the global batch, norm of its gradient, whether to go on, `squares`."""

    loss: tf.Tensor
    correct: tf.Tensor
    norm: tf.Tensor
    going: tf.Tensor
    squares: list[tf.Tensor]


def all_sum(tensor: tf.Tensor) -> tf.Tensor:
    """The sum over all replicas, which is also its own gradient."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def squared_norm(gradients: list[tf.Tensor]) -> tf.Tensor:
    """Of all gradients together."""
    return 2 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])


def to_floats(images: tf.Tensor) -> tf.Tensor:
    """uint8 -> floats in [0, 1], on the device; features, which are floats, as they are."""
    return images if images.dtype.is_floating else tf.cast(images, keras.config.floatx()) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingStep:
    """A graph function: this replica's share of a batch -> outcome. It writes the state, which lies in variables.

    The step belongs to `stage`. A replica's batch comes in microbatches of `microbatch_sizes` examples. `unrolled` writes them
    out one after the other, for layers that sum over replicas: tf.distribute allows no collective within a loop.
    """

    parts: Parts
    config: RunConfig
    stage: Stage
    microbatch_sizes: list[int]
    averages: Average | None
    scale: LossScale | None
    unrolled: bool

    def __call__(self, batch: Batch) -> Outcome:
        state = undo.snapshot(self._undone())
        other = undo.snapshot([variable.value for variable, _ in self._merged()])
        sums = self.accumulated_gradients(batch)
        # The scopes are for a profile; no number depends on them.
        with tf.name_scope(scopes.GRADIENT_SUM):
            # Collectives come one after the other in this order, and what layers write is there first.
            self.merge(other)
            sums = self.reduce(sums)
        with tf.name_scope(scopes.CLIPPING):
            gradients, norm = self.clip(sums.gradients)
        with tf.name_scope(scopes.OPTIMIZER):
            step = self.apply(gradients)
        with tf.name_scope(scopes.AVERAGE):
            self.average(step)
        with tf.name_scope(scopes.GUARDS):
            going = self.decide(state, sums.loss, norm)
        return Outcome(sums.loss, sums.correct, norm, going, sums.squares)

    def microbatch_gradients(self, batch: Batch) -> Sums:
        """The loss of every microbatch is a sum divided by the global batch, so that adding up microbatches and replicas gives
        the gradient of the global batch's mean, also when the last microbatch is shorter. Penalties of layers count once a
        batch, spread over microbatches and replicas by their size.
        """
        model, config = self.parts.model, self.config
        weights = [variable.value for variable in self.stage.trained]
        # Around the gradient too: with --remat it calls layers again.
        with drawing(config.seed, batch.positions), stepping(self.stage):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                logits = model(to_floats(batch.images), training=True)
                with tf.name_scope(scopes.LOSS):
                    losses = self.parts.loss(logits, batch.labels, batch.label_weights)
                    loss = tf.reduce_sum(losses) / self.stage.batch_size
                if model.losses:
                    loss += tf.cast(tf.add_n(model.losses), loss.dtype) * (
                        batch.images.shape[0] / self.stage.batch_size
                    )
                scaled_loss = loss * tf.cast(self.scale.value, loss.dtype) if self.scale else loss
            gradients = tape.gradient(scaled_loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        with tf.name_scope(scopes.METRICS):
            correct = is_correct(logits, batch.labels, batch.label_weights)
        squares = []
        if config.noise_scale:
            square = tf.cast(squared_norm(gradients), keras.config.floatx())
            squares = [square / tf.cast(tf.square(self.scale.value), square.dtype) if self.scale else square]
        return Sums(gradients, loss, tf.math.count_nonzero(correct, dtype=tf.int64), squares)

    def accumulated_gradients(self, batch: Batch) -> Sums:
        """The sums over all microbatches, each of which sees the other variables that the one before has left."""
        sizes = self.microbatch_sizes
        size, full = sizes[0], sizes.count(sizes[0])
        if len(sizes) == 1:
            return self.microbatch_gradients(batch)
        if self.unrolled:
            sums = self.microbatch_gradients(_slice(batch, 0, size))
            for number, length in enumerate(sizes[1:], 1):
                # One after the other, or all would be in memory at once.
                with tf.control_dependencies([sums.loss, *sums.gradients]):
                    more = self.microbatch_gradients(_slice(batch, tf.constant(number * size), length))
                sums = _add(sums, more)
            return sums

        def add(index: tf.Tensor, sums: Sums) -> tuple[tf.Tensor, Sums]:
            return index + 1, _add(sums, self.microbatch_gradients(_slice(batch, index * size, size)))

        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in self.stage.trained]
        zero = tf.zeros([], tf.as_dtype(keras.config.floatx()))
        nothing = Sums(zeros, zero, tf.constant(0, tf.int64), [zero] if self.config.noise_scale else [])
        # A loop, not an unrolled graph: the graph stays the size of one microbatch.
        _, sums = tf.while_loop(lambda index, _: index < full, add, (tf.constant(0), nothing), parallel_iterations=1)
        if len(sizes) > full:
            sums = _add(sums, self.microbatch_gradients(_slice(batch, full * size, sizes[-1])))
        return sums

    def reduce(self, sums: Sums) -> Sums:
        """The sums over all replicas, in --gradient_buckets collectives: each takes one vector, as soon as it is there."""
        if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
            return sums
        gradients, loss, correct, squares = sums
        numbers = tf.stack([loss, tf.cast(correct, loss.dtype), *squares])
        summed = [*gradients]
        travels = tf.bfloat16 if self.config.gradient_dtype == "bfloat16" else loss.dtype
        sizes = [gradient.shape.num_elements() for gradient in gradients]
        groups = buckets(sizes, self.config.gradient_buckets, self.config.generation)
        for group in groups:
            pieces = [tf.cast(tf.reshape(gradients[index], [-1]), travels) for index in group]
            with_numbers = group is groups[-1] and travels == loss.dtype
            vector = all_sum(tf.concat([*pieces, numbers] if with_numbers else pieces, axis=0))
            lengths = [piece.shape.num_elements() for piece in pieces]
            if with_numbers:
                vector, numbers = tf.split(vector, [sum(lengths), numbers.shape.num_elements()])
            for index, piece in zip(group, tf.split(vector, lengths), strict=True):
                summed[index] = tf.cast(tf.reshape(piece, gradients[index].shape), gradients[index].dtype)
        if travels != loss.dtype:  # which would lose the count of correct examples
            numbers = all_sum(numbers)
        squares = [numbers[2] for _ in squares]
        return Sums(summed, numbers[0], tf.cast(tf.round(numbers[1]), tf.int64), squares)

    def merge(self, before: list[tf.Tensor]) -> None:
        """Makes the model's other variables one over the replicas where their layers ask for it."""
        merged = self._merged()
        if not merged:
            return
        variables, kinds = zip(*merged, strict=True)
        context = tf.distribute.get_replica_context()
        values = copies.merge(
            kinds,
            before,
            undo.snapshot([variable.value for variable in variables]),
            all_sum,
            context.num_replicas_in_sync,
            tf.equal(context.replica_id_in_sync_group, 0),
        )
        for variable, value in zip(variables, values, strict=True):
            variable.value.assign(value)

    def clip(self, gradients: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """(gradients, their norm before clipping), without the loss scale: a replica on its own could not know whether the
        gradient of the global batch is finite, and the norm to clip is that of the global batch's."""
        if self.scale:
            gradients = [gradient / tf.cast(self.scale.value, gradient.dtype) for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        if clipping := self.parts.adaptive_clipping:
            gradients = clipping(gradients, [variable.value for variable in self.stage.trained], self.stage.indices)
        if self.config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm, use_norm=norm)
        return gradients, norm

    def apply(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Makes the optimizer's update; returns its number, from 0 on."""
        step = tf.identity(self.parts.optimizer.iterations.value)
        self.parts.optimizer.apply(gradients, self.stage.trained)
        return step

    def average(self, step: tf.Tensor) -> None:
        """average <- d * average + (1 - d) * weights with d = min(--ema, (1 + t) / (10 + t)) at step t.

        With --batch_ramp t are full steps, and d is raised to the batch's share of --batch_size: it counts examples. The
        smaller decay at the start keeps the first weights from lingering (tf.train.ExponentialMovingAverage, num_updates).
        The weights are those that the optimizer wants evaluated.
        """
        if not self.averages:
            return
        weights = evaluation_values(self.parts.optimizer, self.averages.weights)
        fraction = self.stage.batch_size / self.config.batch_size
        for variable, average, weight in zip(self.averages.weights, self.averages.variables, weights, strict=True):
            if id(variable) in self.stage.still:
                continue
            if not self.config.ema:
                average.value.assign(weight)
                continue
            t = self.parts.schedule.full_steps(tf.cast(step, weight.dtype))
            decay = tf.minimum(tf.cast(self.config.ema, weight.dtype), (1 + t) / (10 + t))
            decay = decay if fraction == 1 else decay**fraction
            # One fused kernel for average - (1 - d) * (average - weight): three passes over memory cost a third of the
            # speed of a small network.
            tf.raw_ops.ResourceApplyGradientDescent(
                var=average.value.handle, alpha=1 - decay, delta=average.value - weight
            )

    def decide(self, before: list[tf.Tensor], loss: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
        """Whether to go on; a step that is skipped leaves the state as it was `before`, but for the count of steps."""
        skips = self.config.on_nan == "skip"
        sound, finite = tf.math.is_finite(loss), tf.math.is_finite(norm)
        undo.restore_unless(self._undone(), before, unless=finite & sound)
        with tf.control_dependencies([finite, sound]):  # the loop takes `going` for the end of the step
            going = tf.constant(True) if skips else finite & sound
        if self.scale:
            going = ~self.scale.advance(loss, norm) & (skips | sound)
        return going

    def _undone(self) -> list[tf.Variable]:
        """What a skipped step leaves as it was: all of the state but the count of steps, which is over, and the loss scale,
        which has its own way. Empty where no step is ever skipped."""
        if self.config.on_nan != "skip" and not self.scale:
            return []
        optimizer, averages = self.parts.optimizer, self.averages.variables if self.averages else []
        moving = [variable for variable in self.parts.model.variables if id(variable) not in self.stage.still]
        variables = [*moving, *optimizer.variables, *averages]
        return [variable.value for variable in variables if variable is not optimizer.iterations]

    def _merged(self) -> list[tuple[keras.Variable, str]]:
        variables = self.parts.model.non_trainable_variables
        merged = [(variables[index], kind) for index, kind in self.parts.merged.items()]
        return [(variable, kind) for variable, kind in merged if id(variable) not in self.stage.still]


def _slice(batch: Batch, start: tf.Tensor | int, length: int) -> Batch:
    """A microbatch. tf.slice, because XLA would not know the size of x[start : start + length]."""
    return Batch(*(tf.slice(x, [start] + [0] * (len(x.shape) - 1), [length, *x.shape[1:]]) for x in batch))


def _add(sums: Sums, more: Sums) -> Sums:
    return tf.nest.map_structure(tf.add, sums, more)
