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
    """`function` of every element, in order, one call on each core.

    Args:
      elements: what to map; its own options are kept but for autotuning.
      function: a graph function of an element.
      element_bytes: the memory of one call; large elements are made by fewer calls at once, down to two.
      ahead: how many finished elements may wait.
    """
    calls = max(2, min(cores(), _CALLS_BYTES // max(element_bytes, 1)))
    # Graph functions are written as such; TensorFlow need not translate their Python.
    function = tf.autograph.experimental.do_not_convert(function)
    return untuned(elements.map(function, num_parallel_calls=calls, deterministic=True).prefetch(ahead))


def untuned(elements: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, without autotuning."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return elements.with_options(options)
