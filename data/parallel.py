"""tf.data on all cores, without its autotuning.

Each iterator of an autotuned data set owns a thread that decides about parallelism at intervals that grow to a minute. When
the iterator is dropped, TensorFlow 2.21 now and then waits for the next interval: seconds, later minutes, at the end of an
evaluation or of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_CALLS_BYTES = 2 << 30  # of all elements that are being made at the same time


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(
    elements: tf.data.Dataset, function: Callable[..., Any], element_bytes: int = 0, ahead: int = 2
) -> tf.data.Dataset:
    """`function` of every element, in order, by a pool of threads of its own, one call on each.

    They are one more than the cores: a thread waits now and then for a part of its operation that another core does, and a call
    begins with what only one core can do.

    Args:
      elements: what to map; its own options are kept but for autotuning.
      function: a graph function of an element.
      element_bytes: the memory of one call; large elements are made by fewer calls at once, down to two.
      ahead: how many finished elements may wait.
    """
    threads = cores() + 1
    calls = max(2, min(threads, _CALLS_BYTES // max(element_bytes, 1)))
    # Graph functions are written as such; TensorFlow need not translate their Python.
    function = tf.autograph.experimental.do_not_convert(function)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    stream = elements.map(function, num_parallel_calls=calls, deterministic=True).prefetch(ahead)
    return untuned(stream.with_options(options))


def untuned(elements: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, without autotuning."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return elements.with_options(options)
