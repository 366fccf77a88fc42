"""Batches on their way to the devices: read, stacked and sent by a thread while steps are computed."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from typing import Any

import jax
import tensorflow as tf
from jax.sharding import NamedSharding, PartitionSpec

from convoy.data.pipeline import Batch
from convoy.trainer.engines.jax.devices import AXIS

_AHEAD = 2  # chunks that wait on the devices
_CHUNK_BYTES = 16 << 20
_LONGEST = 32


def chunk_length(batch_bytes: int) -> int:
    """How many batches travel, and are computed, in one go: what 16 MiB hold, at most 32."""
    return max(1, min(_CHUNK_BYTES // max(batch_bytes, 1), _LONGEST))


class Feed:
    """Chunks of a training stream whose elements are dealt to `local` replicas in turn, on the devices of a mesh."""

    def __init__(self, stream: tf.data.Dataset, local: int, chunk: int, mesh: Any):
        self._stream, self._local, self._chunk = stream.batch(chunk * local, drop_remainder=True), local, chunk
        self._sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
        self._ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self._current: Batch | None = None
        self._used = chunk
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)
        self._thread.start()
        # A thread that Python's end meets inside of TensorFlow or JAX aborts the process.
        atexit.register(self.close)

    def next(self, most: int, busy: Any) -> tuple[Batch, int, int, float]:
        """(chunk of batches, first to use, how many, seconds that the devices waited for it), at most `most` of them.

        `busy` is what the devices are computing; only when that is ready do they wait.
        """
        waited = 0.0
        if self._used == self._chunk:
            if self._ready.empty():
                jax.block_until_ready(busy)
                asked = time.perf_counter()
                found = self._ready.get()
                waited = time.perf_counter() - asked
            else:
                found = self._ready.get()
            if isinstance(found, BaseException):
                raise found
            self._current, self._used = found, 0
        assert self._current is not None
        first, count = self._used, min(most, self._chunk - self._used)
        self._used += count
        return self._current, first, count, waited

    def close(self) -> None:
        """Ends the thread, once it has finished the chunk that it is about."""
        atexit.unregister(self.close)
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for chunk in self._stream.as_numpy_iterator():
                batches = Batch(*(self._send(one) for one in chunk))
                if not self._put(batches):
                    return
        except BaseException as error:  # told where it is waited for
            self._put(error)

    def _send(self, array: Any) -> Any:
        # [chunk * replicas, n, ...] -> [chunk, replicas * n, ...]
        own = array.reshape(self._chunk, self._local * array.shape[1], *array.shape[2:])
        return jax.make_array_from_process_local_data(self._sharding, own)

    def _put(self, item: Any) -> bool:
        while not self._over.is_set():
            try:
                self._ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
