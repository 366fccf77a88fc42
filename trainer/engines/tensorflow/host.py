"""What the processes of a run tell each other between loops, through the strategy's own collectives."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from convoy.trainer.engines.runtime import Runtime


class Host:
    """One process of `runtime.cluster`; with a single process nothing is sent."""

    def __init__(self, strategy: tf.distribute.Strategy, runtime: Runtime):
        self._strategy, self._cluster = strategy, runtime.cluster

    def any(self, flag: bool) -> bool:
        if self._cluster.processes == 1:
            return flag
        return bool(self._total(np.array([flag], np.int32))[0])

    def broadcast_int(self, number: int) -> int:
        if self._cluster.processes == 1:
            return number
        return int(self.broadcast_array(np.array([number], np.int32))[0])

    def broadcast_array(self, array: np.ndarray) -> np.ndarray:
        """The leading process's array; the others give one of the same shape and type."""
        return self._total(array if self._cluster.is_leader else np.zeros_like(array))

    def broadcast(self, text: bytes) -> bytes:
        if self._cluster.processes == 1:
            return text
        size = self.broadcast_int(len(text))
        own = np.frombuffer(text, np.uint8) if self._cluster.is_leader else np.zeros(size, np.uint8)
        return self.broadcast_array(own.astype(np.int32)).astype(np.uint8).tobytes()

    def _total(self, array: np.ndarray) -> np.ndarray:
        if not array.size:
            return array
        vector = tf.constant(array.reshape(-1))
        return self._sum(vector.dtype)(vector).numpy().reshape(array.shape)

    @functools.cache  # noqa: B019 - as many as there are dtypes, for as long as the process lives
    def _sum(self, dtype: tf.DType) -> Any:
        """Sums over processes vectors of any length: with one graph for each shape, starting would be tracing."""

        def one(vector: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # Of a process's replicas only the first speaks.
            local = context.num_replicas_in_sync // self._cluster.processes
            speaks = tf.equal(context.replica_id_in_sync_group % local, 0)
            own = tf.where(speaks, vector, tf.zeros_like(vector))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], dtype)])
        def total(vector: tf.Tensor) -> tf.Tensor:
            return self._strategy.experimental_local_results(self._strategy.run(one, (vector,)))[0]

        return total
