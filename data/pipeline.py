"""The streams that feed a step: training batches by position, evaluation batches in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data.augment import augmenter
from data.order import indices
from data.sources.examples import Examples


class Slice(NamedTuple):
    """The part of every global batch that one worker reads: rows [start, stop) of `batch_size`."""

    batch_size: int
    start: int
    stop: int

    @classmethod
    def whole(cls, batch_size: int) -> Slice:
        return cls(batch_size, 0, batch_size)


def training_stream(
    examples: Examples, part: Slice, augment: str, seed: int, first_step: int, replicas: int = 1
) -> tf.data.Dataset:
    """Endless batches (images uint8 [n, h, w, c], labels int32 [n]) from step `first_step` on; n = (stop - start) / replicas.

    The slice of every step comes in `replicas` elements one after the other, in the order of their positions.

    The batch of step s holds positions [s * B, (s + 1) * B) of the order, straddling epochs, never padded. What it
    contains is a function of (seed, s) alone: starting at any step costs nothing, and parallel calls change nothing.
    """
    count = (part.stop - part.start) // replicas
    fetch, change, labels = examples.fetcher(), augmenter(augment, seed), _on_host(examples.labels)

    def batch(element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step, replica = element // replicas, element % replicas
        first = step * part.batch_size + part.start + replica * count
        chosen = indices(first + tf.range(count, dtype=tf.int64), len(examples), seed)
        return change(fetch(chosen), first), tf.gather(labels, chosen)

    return _in_parallel(tf.data.Dataset.counter(first_step * replicas), batch)


def evaluation_batches(examples: Examples, batch_size: int, replicas: int = 1) -> tf.data.Dataset:
    """Every example once, in order: (images uint8 [B, h, w, c], labels int32 [B], weights float32 [B]).

    Batches are filled up with repetitions of the first example, of weight 0, so that there is one for each of the
    `replicas` in every round.
    """
    fetch, total, labels = examples.fetcher(), len(examples), _on_host(examples.labels)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        inside = positions < total
        chosen = tf.where(inside, positions, 0)
        return fetch(chosen), tf.gather(labels, chosen), tf.cast(inside, tf.float32)

    return _in_parallel(tf.data.Dataset.range(-(-total // (batch_size * replicas)) * replicas), batch)


def _in_parallel(steps: tf.data.Dataset, batch: Callable[[tf.Tensor], Any]) -> tf.data.Dataset:
    return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _on_host(labels: np.ndarray) -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.constant(labels)
