"""Batches on their way to the devices: read, stacked and sent by a thread while steps are computed."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from typing import NamedTuple

import jax
import numpy as np
import tensorflow as tf
from jax.sharding import Mesh, NamedSharding

from convoy.data.pipeline import Batch
from convoy.trainer.engines.jax.devices import CHUNK
from convoy.trainer.engines.jax.step import State

_AHEAD = 2  # chunks that wait on the devices
_CHUNK_BYTES = 16 << 20
_MAX_CHUNK = 32


def chunk_length(batch_bytes: int) -> int:
    """How many batches travel, and are computed, in one go: what 16 MiB hold, at most 32."""
    return max(1, min(_CHUNK_BYTES // max(batch_bytes, 1), _MAX_CHUNK))


class Chunk(NamedTuple):
    """Batches to train on: `steps` of them from `first` on."""

    batches: Batch  # [chunk, ...] each
    first: int
    steps: int
    waited: float  # seconds that the devices waited for it


class Feed:
    """Chunks of a training stream, whose elements are for `local_replicas` replicas in turn, on the devices of a mesh."""

    def __init__(self, stream: tf.data.Dataset, local_replicas: int, chunk: int, mesh: Mesh):
        self._stream = stream.batch(chunk * local_replicas, drop_remainder=True)
        self._local_replicas, self._chunk = local_replicas, chunk
        self._sharding = NamedSharding(mesh, CHUNK)
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self._current: Batch | None = None
        self._used = chunk
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)
        self._thread.start()
        # A thread that Python's end meets inside of TensorFlow or JAX aborts the process.
        atexit.register(self.close)

    def next(self, limit: int, busy: State) -> Chunk:
        """The next batches, at most `limit`.

        `busy` is what the devices are computing; only when that is ready do they wait.
        """
        waited = 0.0
        if self._used == self._chunk:
            if self._ready.empty():
                jax.block_until_ready(busy)
                asked = time.perf_counter()
                item = self._ready.get()
                waited = time.perf_counter() - asked
            else:
                item = self._ready.get()
            if isinstance(item, BaseException):
                raise item
            self._current, self._used = item, 0
        assert self._current is not None
        first, steps = self._used, min(limit, self._chunk - self._used)
        self._used += steps
        return Chunk(self._current, first, steps, waited)

    def close(self) -> None:
        """Ends the thread, once it has finished the chunk that it is about."""
        atexit.unregister(self.close)
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for arrays in self._stream.as_numpy_iterator():
                batches = Batch(*(self._send(array) for array in arrays))
                if not self._put(batches):
                    return
        except BaseException as error:  # raised where it is waited for
            self._put(error)

    def _send(self, array: np.ndarray) -> jax.Array:
        # [chunk * replicas, n, ...] -> [chunk, replicas * n, ...]
        own = array.reshape(self._chunk, self._local_replicas * array.shape[1], *array.shape[2:])
        return jax.make_array_from_process_local_data(self._sharding, own)

    def _put(self, item: Batch | BaseException) -> bool:
        while not self._over.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
