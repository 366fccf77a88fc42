"""The graphs: one optimizer step, a loop of them, and the counting of evaluation batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from convoy.data.pipeline import Batch
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.tensorflow import undo
from convoy.trainer.layers import drawing
from convoy.trainer.losses.build import Loss
from convoy.trainer.losses.cross_entropy import cross_entropy, is_correct


class Gradients(NamedTuple):
    """Of one global batch: mean loss, examples right, gradients of the mean loss, and their norm before clipping."""

    loss: tf.Tensor
    correct: tf.Tensor
    gradients: list[tf.Tensor]
    norm: tf.Tensor


def to_floats(images: tf.Tensor) -> tf.Tensor:
    """uint8 -> floats in [0, 1], on the device."""
    return tf.cast(images, keras.config.floatx()) / 255


def all_sum(tensor: tf.Tensor) -> tf.Tensor:
    """The sum over all replicas, which is also its own gradient."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def gradients_of(
    model: keras.Model, loss_of: Loss, config: RunConfig, sizes: list[int], speaks: bool
) -> Callable[..., Gradients]:
    """A graph function (batch, loss scale or None) -> Gradients of the global batch, which all replicas share.

    A replica's batch comes in parts of `sizes` examples. The loss of every part is a sum divided by the global batch, so
    that adding up parts and replicas gives the gradient of the global batch's mean, also when the last part is shorter.
    Penalties of layers (model.losses) count once a batch, spread over parts and replicas by their size.

    `speaks` says that layers of the model talk to other replicas, which tf.distribute does not allow within a loop.
    """
    variables = model.trainable_variables
    size, whole = sizes[0], sizes.count(sizes[0])

    def part_of(batch: Batch, scale: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            with drawing(config.seed, batch.positions):
                logits = model(to_floats(batch.images), training=True)
            losses = loss_of(logits, batch.labels, batch.label_weights)
            loss = tf.reduce_sum(losses) / config.batch_size
            if model.losses:
                loss += tf.cast(tf.add_n(model.losses), loss.dtype) * (batch.images.shape[0] / config.batch_size)
            target = loss if scale is None else loss * tf.cast(scale, loss.dtype)
        gradients = tape.gradient(
            target, [variable.value for variable in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        correct = tf.math.count_nonzero(is_correct(logits, batch.labels, batch.label_weights), dtype=tf.int64)
        return loss, correct, gradients

    def some(batch: Batch, start: Any, length: int) -> Batch:
        # Not one[start : start + length], whose size XLA does not know.
        return Batch(*(tf.slice(one, [start] + [0] * (len(one.shape) - 1), [length, *one.shape[1:]]) for one in batch))

    def batch_of(batch: Batch, scale: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        if len(sizes) == 1:
            return part_of(batch, scale)
        if speaks:
            return one_by_one(batch, scale)

        def add(index, loss, correct, gradients):
            more = part_of(some(batch, index * size, size), scale)
            return index + 1, loss + more[0], correct + more[1], _sum(gradients, more[2])

        dtype = tf.as_dtype(keras.config.floatx())
        zero = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        # A loop, not an unrolled graph: the graph stays the size of one part.
        _, loss, correct, gradients = tf.while_loop(
            lambda index, *_: index < whole,
            add,
            (tf.constant(0), tf.zeros([], dtype), tf.constant(0, tf.int64), zero),
            parallel_iterations=1,
        )
        for tail in sizes[whole:]:
            more = part_of(some(batch, whole * size, tail), scale)
            loss, correct, gradients = loss + more[0], correct + more[1], _sum(gradients, more[2])
        return loss, correct, gradients

    def one_by_one(batch: Batch, scale: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        loss, correct, gradients = part_of(some(batch, 0, size), scale)
        start = size
        for length in sizes[1:]:
            # One after the other, or all would be in memory at once.
            with tf.control_dependencies([loss, *gradients]):
                more = part_of(some(batch, tf.constant(start), length), scale)
            loss, correct, gradients = loss + more[0], correct + more[1], _sum(gradients, more[2])
            start += length
        return loss, correct, gradients

    def whole_batch(batch: Batch, scale: tf.Tensor | None) -> Gradients:
        loss, correct, gradients = _sum_over_replicas(*batch_of(batch, scale))
        if scale is not None:
            # Only now: a replica on its own cannot know that the gradient of the batch is not finite.
            gradients = [gradient / tf.cast(scale, gradient.dtype) for gradient in gradients]
        # Clipped after the reduction: the norm is that of the global batch's gradient, whatever the number of replicas.
        norm = tf.linalg.global_norm(gradients)
        if config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm, use_norm=norm)
        return Gradients(loss, correct, gradients, norm)

    return whole_batch


def training_loop(step: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]], timed: bool) -> Any:
    """step(batch) -> (loss, correct, gradient norm, whether to go on) as a graph function of (iterator, number of steps).

    It returns (steps made, losses [steps], norms [steps], correct, seconds waited for input, whether to go on). The number
    is a tensor: no length is traced twice. A step after which not to go on ends the loop. Without `timed` the seconds are 0:
    TensorFlow refuses to read the clock where operations must be deterministic.
    """

    def now() -> tf.Tensor:
        return tf.timestamp() if timed else tf.constant(0.0, tf.float64)

    @tf.function(autograph=False)
    def loop(iterator: Any, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dtype = tf.as_dtype(keras.config.floatx())

        def body(index, losses, norms, correct, wait, finite):
            # Time stands between the end of the step before and the arrival of the batch, inside the graph: Python
            # around a loop could not see it.
            with tf.control_dependencies([finite]):
                asked = now()
            with tf.control_dependencies([asked]):
                batch = iterator.get_next()
            # On several replicas a batch is one tensor for each.
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                arrived = now()
            with tf.control_dependencies([arrived]):
                loss, right, norm, finite = step(batch)
            losses, norms = losses.write(index, tf.cast(loss, dtype)), norms.write(index, tf.cast(norm, dtype))
            return index + 1, losses, norms, correct + right, wait + (arrived - asked), finite

        start = (
            tf.constant(0),
            tf.TensorArray(dtype, size=steps, element_shape=[]),
            tf.TensorArray(dtype, size=steps, element_shape=[]),
            tf.constant(0, tf.int64),
            tf.constant(0.0, tf.float64),
            tf.constant(True),
        )
        made, losses, norms, correct, wait, finite = tf.while_loop(
            lambda index, losses, norms, correct, wait, finite: (index < steps) & finite,
            body,
            start,
            parallel_iterations=1,
        )
        return made, losses.stack()[:made], norms.stack()[:made], correct, wait, finite

    return loop


def evaluation_loop(
    strategy: tf.distribute.Strategy, model: keras.Model, classes: int, kept: Sequence[tf.Variable] = ()
) -> Any:
    """A graph function (iterator, number of batches) -> (loss, count, right, top five, per class: count, predicted, hit).

    `kept` are variables that have their values again after each batch.
    """

    def count(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        before = undo.snapshot(kept)
        logits = tf.cast(model(to_floats(images), training=False), keras.config.floatx())
        undo.restore_unless(kept, before)
        losses = cross_entropy(logits, labels) * tf.cast(weights, logits.dtype)
        inside = tf.cast(weights, tf.int64)
        guesses = tf.argmax(logits, axis=-1, output_type=tf.int32)
        hits = inside * tf.cast(guesses == labels, tf.int64)
        # Its rank by counting, which every device can do: how many classes have a larger logit.
        own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]
        among = (tf.math.count_nonzero(logits > own, axis=1) < min(5, classes)) & tf.math.is_finite(own[:, 0])
        top5 = inside * tf.cast(among, tf.int64)
        return (
            # Summed in float64: a float32 sum over a million losses loses its last digits.
            tf.reduce_sum(tf.cast(losses, tf.float64)),
            tf.reduce_sum(inside),
            tf.reduce_sum(hits),
            tf.reduce_sum(top5),
            tf.math.unsorted_segment_sum(inside, labels, classes),
            tf.math.unsorted_segment_sum(inside, guesses, classes),
            tf.math.unsorted_segment_sum(hits, labels, classes),
        )

    @tf.function(autograph=False)
    def loop(iterator: Any, batches: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def body(index, *sums):
            counts = strategy.run(count, args=iterator.get_next())
            more = [strategy.reduce(tf.distribute.ReduceOp.SUM, one, axis=None) for one in counts]
            return index + 1, *(old + new for old, new in zip(sums, more, strict=True))

        none, per_class = tf.constant(0, tf.int64), tf.zeros([classes], tf.int64)
        start = (tf.constant(0), tf.constant(0.0, tf.float64), none, none, none, per_class, per_class, per_class)
        return tf.while_loop(lambda index, *_: index < batches, body, start, parallel_iterations=1)[1:]

    return loop


def _sum_over_replicas(
    loss: tf.Tensor, correct: tf.Tensor, gradients: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The sums over all replicas, in one collective: everything travels in one vector."""
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return loss, correct, gradients
    dtype = loss.dtype
    shapes = [gradient.shape for gradient in gradients]
    pieces = [tf.cast(tf.reshape(gradient, [-1]), dtype) for gradient in gradients]
    vector = tf.concat([*pieces, [loss], [tf.cast(correct, dtype)]], axis=0)
    vector = all_sum(vector)
    *flat, loss, correct = tf.split(vector, [*(shape.num_elements() for shape in shapes), 1, 1])
    gradients = [
        tf.cast(tf.reshape(piece, shape), gradient.dtype)
        for piece, shape, gradient in zip(flat, shapes, gradients, strict=True)
    ]
    return loss[0], tf.cast(tf.round(correct[0]), tf.int64), gradients


def _sum(some: list[tf.Tensor], others: list[tf.Tensor]) -> list[tf.Tensor]:
    return [a + b for a, b in zip(some, others, strict=True)]
