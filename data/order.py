"""The order of examples is a function, not a buffer: position in the training stream -> index of an example.

Position p lies in epoch p // N at rank p % N. Every epoch is a permutation of the N examples, computed where it is needed
and never stored. So a checkpoint's data state is one integer, and a run resumes in O(1).
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from convoy.data.arrays import Array, Indices, Positions, Scalar, Uniforms
from convoy.data.keys import key


def indices(positions: Positions, examples: int, seed: int) -> Indices:
    """The indices of examples, int64 in [0, examples), at these positions: a permutation per epoch.

    The permutation is TensorFlow's RandomIndexShuffle, a Simon block cipher used as a cycle-walking permutation. Each
    position is computed by itself, so neither batch size, workers nor parallel calls can change it.
    """
    epochs = positions // examples
    seeds = tf.stack([tf.fill(tf.shape(positions), tf.constant(key(seed, "order"), tf.int64)), epochs, epochs], axis=1)
    # The op takes three seed words and one bound per index, and no fewer: the epoch stands twice.
    bounds = tf.fill(tf.shape(positions), tf.constant(examples - 1, tf.int64))
    return tf.raw_ops.RandomIndexShuffle(index=positions % examples, seed=seeds, max_index=bounds, rounds=8)


def uniforms(first_position: Scalar, count: int, numbers: int, seed: int, stream: str) -> Uniforms:
    """Random numbers for `count` consecutive positions: float32 [count, numbers] in [0, 1).

    Row i is a function of (seed, stream, first_position + i) alone. Philox (Salmon et al. 2011) is counter-based, and a row
    takes `numbers` words from its own counter on. `numbers` must be a multiple of 4, a block of Philox.
    """
    if numbers % 4:
        raise ValueError(f"numbers={numbers} is not a multiple of 4, so rows would not start at a Philox counter.")
    counter = tf.stack([tf.cast(first_position * (numbers // 4), tf.uint64), tf.constant(0, tf.uint64)])
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[count, numbers], key=tf.constant([key(seed, stream)], tf.uint64), counter=counter, alg=1
    )


@dataclasses.dataclass(frozen=True)
class PositionRanges:
    """Positions in ranges of consecutive ones.

    Attributes:
      ranges: (first int64, length) of each.
      seed: the run's.
    """

    ranges: list[tuple[Scalar, int]]
    seed: int

    @property
    def positions(self) -> Positions:
        """All of them, int64 [n]."""
        return tf.concat([first + tf.range(length, dtype=tf.int64) for first, length in self.ranges], axis=0)

    def uniforms(self, numbers: int, stream: str) -> Uniforms:
        """float32 [n, numbers] in [0, 1), a row for each position; see convoy.data.order.uniforms."""
        return tf.concat([uniforms(first, length, numbers, self.seed, stream) for first, length in self.ranges], axis=0)

    def padded_to_pairs(self, aligned: bool) -> PositionRanges:
        """Ranges that contain these, begin at even positions and have even lengths; `aligned` says that these do already."""
        if aligned:
            return self
        return dataclasses.replace(
            self, ranges=[(first - first % 2, length + 2 - length % 2) for first, length in self.ranges]
        )

    def rows_after_padding(self, aligned: bool) -> Array | None:
        """The places of these positions among those of `padded_to_pairs`: int32 [n]; None if they are the same."""
        if aligned:
            return None
        rows, before = [], 0
        for first, length in self.ranges:
            rows.append(before + tf.cast(first % 2, tf.int32) + tf.range(length))
            before += length + 2 - length % 2
        return tf.concat(rows, axis=0)
