"""Which example a position of the training stream shows, balanced or not, and how often it was shown before.

Every epoch draws class c exactly m_c times, whatever the seed. A position is a slot of its epoch, by the permutation of
data.order. The slot gives the class and the number of this draw within the epoch. Counted over the whole run, the draws of a
class go through its n_c examples in passes; each pass shows every example once, in an order of its own. Nothing is decoded to
be thrown away, nothing is buffered, and a checkpoint's data state is still one integer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convoy.data.arrays import Array, Indices, Positions
from convoy.data.balance import draws_per_class
from convoy.data.blocked import BlockedOrder
from convoy.data.keys import key
from convoy.data.order import indices, uniforms
from convoy.data.specs import BalanceSpec

_LARGEST = tf.int64.max >> 1  # a word of 62 bits


class Sample(NamedTuple):
    """What positions show."""

    indices: Indices  # int64 [n]
    times_seen: Array  # int64 [n]: how often each of these examples was shown before


class Sampler:
    """Positions -> examples, a pure function of (seed, position).

    Several passes over a class within one epoch are shuffled together: `times_seen` counts the times that an example is shown
    from 0 on and without gaps, but in the order of time only between epochs. At the end of any epoch no example of a class has
    been shown more than once more often than another.

    Args:
      labels: int32 [N], the label of every example.
      balance: --balance.
      seed: the run's.
      blocks: the blocked order, which knows no balance; None for the full shuffle.
    """

    def __init__(self, labels: np.ndarray, balance: BalanceSpec, seed: int, blocks: BlockedOrder | None = None):
        counts = np.bincount(labels)
        draws = draws_per_class(counts, balance)
        self._blocks = blocks
        self.seed, self._epoch, self._balanced = seed, int(draws.sum()), balance.name != "none"
        if not self._balanced:
            return
        # On the host whatever else is there: a captured tensor elsewhere would travel with every batch.
        with tf.device("CPU:0"):
            numbers = np.asarray(uniforms(tf.constant(0, tf.int64), len(labels), 4, seed, "class"))
            members = np.lexsort((numbers[:, 0], labels))
            firsts = np.cumsum(counts) - counts
            ranks = np.lexsort((numbers[:, 1], labels[members])) - np.repeat(firsts, counts)
            self._members, self._ranks = tf.constant(members), tf.constant(ranks)
            self._counts, self._firsts = tf.constant(counts), tf.constant(firsts)
            self._draws, self._ends = tf.constant(draws), tf.constant(np.cumsum(draws))

    @property
    def epoch(self) -> int:
        """Positions of one epoch."""
        return self._epoch

    def sample(self, positions: Positions) -> Sample:
        """What any positions, int64 [n], show."""
        epochs = positions // self._epoch
        if self._blocks:
            slots = tf.numpy_function(self._blocks.indices, [positions], tf.int64, stateful=False)
            return Sample(tf.ensure_shape(slots, positions.shape), epochs)
        slots = indices(positions, self._epoch, self.seed)
        if not self._balanced:
            return Sample(slots, epochs)
        classes = tf.searchsorted(self._ends, slots, side="right")
        sizes = tf.gather(self._counts, classes)
        draws = tf.gather(self._draws, classes)
        number = epochs * draws + slots - (tf.gather(self._ends, classes) - draws)  # of the draw, in the whole run
        passes = number // sizes
        ranks = self._shuffled(number % sizes, sizes, passes, tf.cast(classes, tf.int64))
        return Sample(tf.gather(self._members, tf.gather(self._firsts, classes) + ranks), passes)

    def _shuffled(self, ranks: Array, sizes: Array, passes: Array, classes: Array) -> Array:
        """Permutes ranks int64 [n], each in [0, size of its class), in another way for each pass over a class.

        The class's own permutation, turned before and after by amounts that depend on the pass. RandomIndexShuffle alone
        would do, but looks for each rank of a small class in a domain of 2**16: 30 us for one of 50, 500 for one of 2.
        """
        seeds = tf.stack([tf.fill(tf.shape(ranks), tf.constant(key(self.seed, "class"), tf.int64)), passes, classes], 1)
        words = tf.raw_ops.RandomIndexShuffle(
            index=tf.zeros_like(ranks), seed=seeds, max_index=tf.fill(tf.shape(ranks), _LARGEST), rounds=16
        )
        turned = tf.gather(self._firsts, classes) + (ranks + words) % sizes
        return (tf.gather(self._ranks, turned) + words // sizes) % sizes
