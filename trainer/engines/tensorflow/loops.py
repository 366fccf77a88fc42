"""Several steps in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf

from convoy.data.pipeline import Batch
from convoy.trainer.engines.tensorflow.step import Outcome


class LoopOutcome(NamedTuple):
    """Of several steps."""

    steps: tf.Tensor
    losses: tf.Tensor  # floats [steps]
    norms: tf.Tensor
    squares: list[tf.Tensor]  # with --noise_scale floats [steps], else none
    correct: tf.Tensor
    waited: tf.Tensor  # seconds for input
    going: tf.Tensor  # whether to go on


# A tf.function (iterator over batches, how many steps) -> LoopOutcome.
Loop: TypeAlias = "tf.types.experimental.PolymorphicFunction"


def training_loop(
    step: Callable[[Batch], Outcome], strategy: tf.distribute.Strategy, timed: bool, noise_scale: bool
) -> Loop:
    """A loop over `step` on every replica of a strategy.

    The number of steps is a tensor: no length is traced twice. A step after which not to go on ends the loop. Without `timed`
    the seconds are 0: TensorFlow refuses to read the clock where operations must be deterministic.
    """

    def on_replicas(batch: Batch) -> Outcome:
        # Summed over all replicas already, so every one of them says the same.
        outcome = strategy.run(step, (batch,))
        return tf.nest.map_structure(lambda tensor: strategy.experimental_local_results(tensor)[0], outcome)

    def now() -> tf.Tensor:
        return tf.timestamp() if timed else tf.constant(0.0, tf.float64)

    @tf.function(autograph=False)
    def loop(iterator: tf.data.Iterator, steps: tf.Tensor) -> LoopOutcome:
        dtype = tf.as_dtype(keras.config.floatx())

        def body(
            steps_made: tf.Tensor,
            losses: tf.TensorArray,
            norms: tf.TensorArray,
            squares: list[tf.TensorArray],
            correct: tf.Tensor,
            waited: tf.Tensor,
            going: tf.Tensor,
        ) -> tuple[tf.Tensor | tf.TensorArray | list[tf.TensorArray], ...]:
            # Time stands between the end of the step before and the arrival of the batch, inside the graph: Python
            # around a loop could not see it.
            with tf.control_dependencies([going]):
                asked = now()
            with tf.control_dependencies([asked]):
                batch = iterator.get_next()
            # On several replicas a batch is one tensor for each.
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                arrived = now()
            with tf.control_dependencies([arrived]):
                outcome = on_replicas(batch)
            losses = losses.write(steps_made, tf.cast(outcome.loss, dtype))
            norms = norms.write(steps_made, tf.cast(outcome.norm, dtype))
            squares = [array.write(steps_made, square) for array, square in zip(squares, outcome.squares, strict=True)]
            correct, waited = correct + outcome.correct, waited + (arrived - asked)
            return steps_made + 1, losses, norms, squares, correct, waited, outcome.going

        def floats() -> tf.TensorArray:
            return tf.TensorArray(dtype, size=steps, element_shape=[])

        start = (
            tf.constant(0),
            floats(),
            floats(),
            [floats()] if noise_scale else [],
            tf.constant(0, tf.int64),
            tf.constant(0.0, tf.float64),
            tf.constant(True),
        )
        steps_made, losses, norms, squares, *rest = tf.while_loop(
            lambda steps_made, *rest: (steps_made < steps) & rest[-1], body, start, parallel_iterations=1
        )
        losses, norms, *squares = (array.stack()[:steps_made] for array in (losses, norms, *squares))
        return LoopOutcome(steps_made, losses, norms, squares, *rest)

    return loop
