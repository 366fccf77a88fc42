"""What the processes of a run tell each other between loops, through the strategy's own collectives."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from trainer.engines.setting import Setting


class Host:
    """One process of `setting.cluster`; with a single process nothing is sent."""

    def __init__(self, strategy: tf.distribute.Strategy, setting: Setting):
        self._strategy, self._cluster = strategy, setting.cluster

    def any(self, flag: bool) -> bool:
        if self._cluster.processes == 1:
            return flag
        return bool(self._total(np.array([flag], np.int32))[0])

    def of_the_leader(self, number: int) -> int:
        if self._cluster.processes == 1:
            return number
        return int(self.broadcast(np.array([number], np.int32))[0])

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """The leading process's array; the others give one of the same shape and type."""
        return self._total(array if self._cluster.leads else np.zeros_like(array))

    def share(self, text: bytes) -> bytes:
        if self._cluster.processes == 1:
            return text
        size = self.of_the_leader(len(text))
        own = np.frombuffer(text, np.uint8) if self._cluster.leads else np.zeros(size, np.uint8)
        return self.broadcast(own.astype(np.int32)).astype(np.uint8).tobytes()

    def _total(self, array: np.ndarray) -> np.ndarray:
        if not array.size:
            return array
        return self._sum(tf.constant(array)).numpy()

    @tf.function(autograph=False, reduce_retracing=True)
    def _sum(self, tensor: tf.Tensor) -> Any:
        def one() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # Of a process's replicas only the first speaks.
            local = context.num_replicas_in_sync // self._cluster.processes
            speaks = tf.equal(context.replica_id_in_sync_group % local, 0)
            own = tf.where(speaks, tensor, tf.zeros_like(tensor))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        return self._strategy.experimental_local_results(self._strategy.run(one))[0]
