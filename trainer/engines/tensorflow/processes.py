"""What the processes of a run tell each other between loops, through the strategy's own collectives."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class ProcessSum:
    """Sums of arrays over the processes of a strategy, each of which has several replicas."""

    def __init__(self, strategy: tf.distribute.Strategy, processes: int):
        self._strategy, self._processes = strategy, processes

    def __call__(self, array: np.ndarray) -> np.ndarray:
        vector = tf.constant(array.reshape(-1))
        return self._sum(vector.dtype)(vector).numpy().reshape(array.shape)

    @functools.cache  # noqa: B019 - as many as there are dtypes, for as long as the process lives
    def _sum(self, dtype: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
        """For vectors of any length: with one graph for each shape, starting would be tracing."""

        def of_replica(vector: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # A process counts once.
            local_replicas = context.num_replicas_in_sync // self._processes
            is_first_local_replica = tf.equal(context.replica_id_in_sync_group % local_replicas, 0)
            own = tf.where(is_first_local_replica, vector, tf.zeros_like(vector))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], dtype)])
        def total(vector: tf.Tensor) -> tf.Tensor:
            return self._strategy.experimental_local_results(self._strategy.run(of_replica, (vector,)))[0]

        return total
