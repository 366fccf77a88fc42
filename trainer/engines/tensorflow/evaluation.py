"""What a network says of evaluation batches."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from convoy.trainer.engines.base import Evaluated, EvaluationCounts
from convoy.trainer.engines.tensorflow import undo
from convoy.trainer.engines.tensorflow.step import to_floats
from convoy.trainer.losses.cross_entropy import cross_entropy


def evaluation_loop(
    strategy: tf.distribute.Strategy, model: keras.Model, classes: int, kept: Sequence[tf.Variable] = ()
) -> tf.types.experimental.PolymorphicFunction:
    """A tf.function (iterator, number of batches) -> their counts over all replicas, and this process's logits.

    The logits are floats [batches, replicas of this process * examples, classes].

    `kept` are variables that have their values again after each batch.
    """

    def evaluate(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> Evaluated:
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
        counts = EvaluationCounts(
            # Summed in float64: a float32 sum over a million losses loses its last digits.
            tf.reduce_sum(tf.cast(losses, tf.float64)),
            tf.reduce_sum(inside),
            tf.reduce_sum(hits),
            tf.reduce_sum(inside * tf.cast(among, tf.int64)),
            tf.math.unsorted_segment_sum(inside, labels, classes),
            tf.math.unsorted_segment_sum(inside, guesses, classes),
            tf.math.unsorted_segment_sum(hits, labels, classes),
        )
        return Evaluated(counts, logits)

    @tf.function(autograph=False)
    def loop(iterator: tf.data.Iterator, batches: tf.Tensor) -> Evaluated:
        def body(index: tf.Tensor, kept: tf.TensorArray, *sums: tf.Tensor) -> tuple[tf.Tensor | tf.TensorArray, ...]:
            counts, logits = strategy.run(evaluate, args=iterator.get_next())
            more = [strategy.reduce(tf.distribute.ReduceOp.SUM, x, axis=None) for x in counts]
            kept = kept.write(index, tf.concat(strategy.experimental_local_results(logits), axis=0))
            return index + 1, kept, *(old + new for old, new in zip(sums, more, strict=True))

        none, per_class = tf.constant(0, tf.int64), tf.zeros([classes], tf.int64)
        counts = (tf.constant(0.0, tf.float64), none, none, none, per_class, per_class, per_class)
        start = (tf.constant(0), tf.TensorArray(keras.config.floatx(), batches, element_shape=[None, classes]), *counts)
        _, logits, *sums = tf.while_loop(lambda index, *_: index < batches, body, start, parallel_iterations=1)
        return Evaluated(EvaluationCounts(*sums), logits.stack())

    return loop
