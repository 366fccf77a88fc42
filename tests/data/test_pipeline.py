"""The streams: positions in order whatever the batch, every evaluated example once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from data.order import indices
from data.pipeline import Slice, evaluation_batches, training_stream
from data.sources.examples import InMemory

N = 37
# Every image says which example it is.
EXAMPLES = InMemory(
    np.arange(N, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8), np.arange(N) % 5
)


def labels_and_ids(batch_size: int, steps: int, first_step: int = 0, augment: str = "none", seed: int = 1):
    stream = training_stream(EXAMPLES, Slice.whole(batch_size), augment, seed, first_step)
    batches = list(stream.take(steps).as_numpy_iterator())
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


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
        data = training_stream(EXAMPLES, Slice.whole(8), "article", 0, 0)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = parallel
        return [images.tobytes() for images, _ in data.with_options(options).take(40).as_numpy_iterator()]

    assert stream(1) == stream(4)


def test_resuming_costs_nothing_and_changes_nothing():
    whole, _ = labels_and_ids(8, 1010, augment="standard")
    later, _ = labels_and_ids(8, 10, first_step=1000, augment="standard")
    assert np.array_equal(whole[8000:], later)


def test_workers_read_contiguous_slices_of_the_same_batches():
    whole, labels = labels_and_ids(10, 6, augment="article")
    for start, stop in ((0, 4), (4, 10)):
        stream = training_stream(EXAMPLES, Slice(10, start, stop), "article", 1, 0)
        for step, (images, own) in enumerate(stream.take(6).as_numpy_iterator()):
            assert np.array_equal(images, whole[step * 10 + start : step * 10 + stop])
            assert np.array_equal(own, labels[step * 10 + start : step * 10 + stop])


@pytest.mark.parametrize("batch_size", [1, 5, 36, 37, 38, 100])
def test_evaluation_shows_every_example_once_and_pads_with_weight_0(batch_size):
    batches = list(evaluation_batches(EXAMPLES, batch_size).as_numpy_iterator())
    assert all(len(images) == len(labels) == len(weights) == batch_size for images, labels, weights in batches)
    shown = np.concatenate([images[weights == 1, 0, 0, 0] for images, _, weights in batches])
    assert np.array_equal(shown, np.arange(N))
    assert sum(weights.sum() for _, _, weights in batches) == N


def test_every_shape_of_a_training_batch_is_static():
    images, labels = training_stream(EXAMPLES, Slice.whole(8), "article", 0, 0).element_spec
    assert images.shape == (8, 4, 4, 1)
    assert labels.shape == (8,)
    assert images.dtype == tf.uint8
