"""The streams: positions in order whatever the batch, every evaluated example once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from convoy.data.config import DataConfig
from convoy.data.order import indices
from convoy.data.pipeline import BatchSharding, evaluation_batches, training_stream
from convoy.data.sources.in_memory import InMemory

pytestmark = pytest.mark.slow

N = 37
ARTICLE = DataConfig(augment="article")
# Every image says which example it is.
EXAMPLES = InMemory(
    np.arange(N, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8), np.arange(N) % 5
)


def labels_and_ids(batch_size: int, steps: int, first_position: int = 0, augment: str = "none", seed: int = 1):
    stream = training_stream(EXAMPLES, BatchSharding(batch_size), DataConfig(augment=augment), seed, first_position)
    batches = list(stream.take(steps).as_numpy_iterator())
    return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1][:, 0] for batch in batches])


@pytest.mark.parametrize("batch_size", [1, 5, 37, 64, 100])
def test_an_epoch_shows_every_example_once_for_any_batch(batch_size):
    steps = -(-2 * N // batch_size)
    images, labels = labels_and_ids(batch_size, steps)
    shown = images[:, 0, 0, 0]
    assert np.array_equal(shown, indices(tf.range(steps * batch_size, dtype=tf.int64), N, 1).numpy())
    assert np.array_equal(np.sort(shown[:N]), np.arange(N))
    assert np.array_equal(np.sort(shown[N : 2 * N]), np.arange(N))
    assert np.array_equal(labels, shown % 5)


@pytest.mark.parametrize("augment", ["none", "standard", "article"])
def test_the_same_position_has_the_same_pixels_for_other_batches(augment):
    fine, _ = labels_and_ids(4, 30, augment=augment)
    coarse, _ = labels_and_ids(60, 2, augment=augment)
    assert np.array_equal(fine, coarse)


def test_parallel_calls_change_nothing():
    def stream(parallel: int) -> list[bytes]:
        data = training_stream(EXAMPLES, BatchSharding(8), ARTICLE, 0, 0)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = parallel
        return [images.tobytes() for images, *_ in data.with_options(options).take(40).as_numpy_iterator()]

    assert stream(1) == stream(4)


def test_resuming_costs_nothing_and_changes_nothing():
    whole, _ = labels_and_ids(8, 1010, augment="standard")
    later, _ = labels_and_ids(8, 10, first_position=8000, augment="standard")
    assert np.array_equal(whole[8000:], later)


@pytest.mark.parametrize("microbatches", [1, 2, 3])
def test_processes_and_replicas_share_every_microbatch_of_the_same_batches(microbatches):
    whole, labels = labels_and_ids(24, 6, augment="article")
    for replicas, local in ((2, 2), (4, 2), (4, 1)):
        dealt = {}
        for first in range(0, replicas, local):
            sharding = BatchSharding(24, microbatches, replicas, first, local)
            for element, batch in enumerate(
                training_stream(EXAMPLES, sharding, ARTICLE, 1, 0).take(6 * local).as_numpy_iterator()
            ):
                dealt[element // local, first + element % local] = batch
        for step in range(6):
            start = step * 24
            for microbatch in range(microbatches):
                size = 24 // microbatches // replicas
                for replica in range(replicas):
                    images, own, _, positions = (
                        array[microbatch * size : (microbatch + 1) * size] for array in dealt[step, replica]
                    )
                    there = slice(start + replica * size, start + (replica + 1) * size)
                    assert np.array_equal(images, whole[there])
                    assert np.array_equal(own[:, 0], labels[there])
                    assert positions[:, 0].tolist() == list(range(there.start, there.stop))
                start += size * replicas


def test_a_short_last_microbatch_is_shared_too():
    sharding = BatchSharding(20, microbatches=3, replicas=2)
    assert sharding.microbatch_sizes == [4, 4, 2]
    assert [sharding.runs(replica) for replica in (0, 1)] == [
        [(0, 4), (8, 4), (16, 2)],
        [(4, 4), (12, 4), (18, 2)],
    ]


def test_positions_beyond_32_bits_keep_their_high_word():
    first = 3 * 2**33 + 5
    (*_, positions), *_ = (
        training_stream(EXAMPLES, BatchSharding(8), DataConfig(), 0, first).take(1).as_numpy_iterator()
    )
    low, high = positions.astype(np.uint64).T
    assert (low + high * 2**32).tolist() == list(range(first, first + 8))


def test_processes_evaluate_every_example_once():
    shown = []
    for first in (0, 2):
        for images, _, weights in evaluation_batches(EXAMPLES, 5, 4, first, 2).as_numpy_iterator():
            shown += images[weights == 1, 0, 0, 0].tolist()
    assert sorted(shown) == list(range(N))


@pytest.mark.parametrize("batch_size", [1, 5, 36, 37, 38, 100])
def test_evaluation_shows_every_example_once_and_pads_with_weight_0(batch_size):
    batches = list(evaluation_batches(EXAMPLES, batch_size).as_numpy_iterator())
    assert all(len(images) == len(labels) == len(weights) == batch_size for images, labels, weights in batches)
    shown = np.concatenate([images[weights == 1, 0, 0, 0] for images, _, weights in batches])
    assert np.array_equal(shown, np.arange(N))
    assert sum(weights.sum() for _, _, weights in batches) == N


def test_every_shape_of_a_training_batch_is_static():
    images, labels, weights, positions = training_stream(EXAMPLES, BatchSharding(8, 3), ARTICLE, 0, 0).element_spec
    assert images.shape == (8, 4, 4, 1)
    assert labels.shape == weights.shape == (8, 2)
    assert images.dtype == tf.uint8
    assert positions.shape == (8, 2)
