"""--balance at the level of indices: which example a position of the training stream shows, and for how many times now.

Every epoch draws class c exactly m_c times, whatever the seed. A position is a slot of its epoch, by the permutation of
data.order; the slot says the class and which of its draws it is; and these, counted over the whole run, go through the class
in passes that show every one of its n_c examples once, each in an order of its own. Nothing is decoded to be thrown away,
nothing is buffered, and a checkpoint's data state is still one integer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from convoy.data.keys import key
from convoy.data.order import indices, uniforms

_LARGEST = tf.int64.max >> 1  # a word of 62 bits


class Sample(NamedTuple):
    """What consecutive positions show."""

    indices: tf.Tensor  # int64 [n]
    shown: tf.Tensor  # int64 [n]: how often each of these examples was shown before


class Sampler:
    """Positions -> examples, a pure function of (seed, position).

    Within an epoch that has several passes over a class these are shuffled together: `shown` numbers the times that an
    example is shown from 0 on and without gaps, but only between epochs in the order of time. At the end of any epoch no
    example of a class has been shown more than once more often than another.

    Args:
      labels: int32 [N], the label of every example.
      balance: as DataConfig has it.
      seed: the run's.
    """

    def __init__(self, labels: np.ndarray, balance: str, seed: int):
        counts = np.bincount(labels)
        draws = draws_per_class(counts, balance)
        self.seed, self._epoch, self._balanced = seed, int(draws.sum()), balance != "none"
        if not self._balanced:
            return
        # On the host whatever else is there: a captured tensor elsewhere would travel with every batch.
        with tf.device("CPU:0"):
            numbers = uniforms(tf.constant(0, tf.int64), len(labels), 4, seed, "class").numpy()
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

    def draw(self, positions: tf.Tensor) -> Sample:
        """Positions int64 [n], any -> what they show."""
        slots, epochs = indices(positions, self._epoch, self.seed), positions // self._epoch
        if not self._balanced:
            return Sample(slots, epochs)
        classes = tf.searchsorted(self._ends, slots, side="right")
        of = tf.gather(self._counts, classes)
        draws = tf.gather(self._draws, classes)
        number = epochs * draws + slots - (tf.gather(self._ends, classes) - draws)
        passes = number // of
        places = tf.gather(self._firsts, classes) + self._shuffled(number % of, of, passes, tf.cast(classes, tf.int64))
        return Sample(tf.gather(self._members, places), passes)

    def _shuffled(self, ranks: tf.Tensor, of: tf.Tensor, passes: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Ranks int64 [n], each in [0, of), -> as many others, a permutation for each pass over a class.

        The class's own permutation, turned before and after by amounts that the pass decides. RandomIndexShuffle alone
        would do, but looks for each rank of a small class in a domain of 2**16: 30 us for one of 50, 500 for one of 2.
        """
        seeds = tf.stack([tf.fill(tf.shape(ranks), tf.constant(key(self.seed, "class"), tf.int64)), passes, classes], 1)
        words = tf.raw_ops.RandomIndexShuffle(
            index=tf.zeros_like(ranks), seed=seeds, max_index=tf.fill(tf.shape(ranks), _LARGEST), rounds=16
        )
        turned = tf.gather(self._firsts, classes) + (ranks + words) % of
        return (tf.gather(self._ranks, turned) + words // of) % of


def draws_per_class(counts: np.ndarray, balance: str) -> np.ndarray:
    """How often an epoch shows each class: int64 [classes].

    undersample draws as many of each class as the smallest has; all others draw as many examples as there are, so that an
    epoch costs the same, shared among the classes by their frequencies to within one draw (largest remainder).

    Args:
      counts: int64 [classes], the examples of each. A class without any is never drawn, one with some is.
      balance: as DataConfig has it.
    """
    there, (kind, _, beta) = counts > 0, balance.partition(":")
    if kind == "none":
        return counts
    if kind == "undersample":
        return np.where(there, counts[there].min(), 0)
    if kind == "oversample":
        frequencies = there.astype(float)
    elif kind == "sqrt":
        frequencies = np.sqrt(counts)
    else:
        frequencies = np.divide(counts, effective_numbers(counts, float(beta)), out=np.zeros(len(counts)), where=there)
    return _apportioned(int(counts.sum()), frequencies)


def effective_numbers(counts: np.ndarray, beta: float) -> np.ndarray:
    """(1 - beta**n) / (1 - beta) of counts n: float64 [classes] in [1, n], or 0 for none (Cui et al. 2019, section 3.2).

    It is 1 for beta = 0, and nears n as beta nears 1.
    """
    return -np.expm1(counts * np.log(beta)) / (1 - beta)


def _apportioned(total: int, frequencies: np.ndarray) -> np.ndarray:
    """`total` in whole numbers by `frequencies`: each quota rounded down, then one more for the largest remainders."""
    quotas = total * frequencies / frequencies.sum()
    shares = np.floor(quotas).astype(np.int64)
    # Stable: of equal remainders the class that comes first has it, on every machine.
    shares[np.argsort(shares - quotas, kind="stable")[: total - shares.sum()]] += 1
    return shares
