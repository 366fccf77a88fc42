"""The order: every example once an epoch, and a position's example and numbers depend on the position alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from convoy.data.keys import key
from convoy.data.order import indices, uniforms


def order(start: int, stop: int, examples: int, seed: int = 0) -> np.ndarray:
    return indices(tf.range(start, stop, dtype=tf.int64), examples, seed).numpy()


@pytest.mark.parametrize("examples", [1, 2, 3, 7, 64, 1000, 1437, 50_000])
def test_every_epoch_is_a_permutation(examples):
    stream = order(0, 3 * examples, examples)
    for epoch in range(3):
        shown = stream[epoch * examples : (epoch + 1) * examples]
        assert np.array_equal(np.sort(shown), np.arange(examples))


def test_epochs_and_seeds_differ():
    first, second, other = order(0, 1000, 1000), order(1000, 2000, 1000), order(0, 1000, 1000, seed=1)
    # Two random permutations agree in one place on average; 20 would be beyond chance.
    assert (first == second).sum() < 20
    assert (first == other).sum() < 20


def test_a_position_does_not_depend_on_how_it_is_asked_for():
    whole = order(0, 5000, 1437)
    assert np.array_equal(whole[1234:4321], order(1234, 4321, 1437))
    assert all(order(p, p + 1, 1437)[0] == whole[p] for p in (0, 1436, 1437, 4999))


def test_positions_beyond_32_bits():
    start = 10 * 2**32
    assert np.array_equal(np.sort(order(start - start % 100, start - start % 100 + 100, 100)), np.arange(100))


def test_the_order_is_mixed_well():
    # Neighbours of the permutation: the mean distance of two random ranks is N / 3.
    stream = order(0, 10_000, 10_000).astype(np.int64)
    assert abs(np.abs(np.diff(stream)).mean() / (10_000 / 3) - 1) < 0.03


def test_numbers_depend_on_the_position_alone():
    whole = uniforms(tf.constant(0, tf.int64), 300, 8, 5, "a").numpy()
    assert np.array_equal(whole[100:117], uniforms(tf.constant(100, tf.int64), 17, 8, 5, "a").numpy())
    assert not np.array_equal(whole[:17], uniforms(tf.constant(0, tf.int64), 17, 8, 6, "a").numpy())
    assert not np.array_equal(whole[:17], uniforms(tf.constant(0, tf.int64), 17, 8, 5, "b").numpy())
    assert len(np.unique(whole)) > 0.999 * whole.size
    assert abs(whole.mean() - 0.5) < 0.02


def test_numbers_refuse_a_row_that_is_no_whole_number_of_blocks():
    with pytest.raises(ValueError, match="multiple of 4"):
        uniforms(tf.constant(0, tf.int64), 3, 6, 0, "a")


def test_keys_are_the_same_everywhere():
    # Written down once: other keys would mean another order for every run there ever was.
    assert key(0, "order") == 1152760118607444429
    assert key(0, "augment") == 7473631653786723695
    assert len({key(seed, stream) for seed in range(100) for stream in ("order", "augment")}) == 200
