"""The blocked order: a permutation an epoch, whatever the numbers and processes, that needs few blocks at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest

from convoy import exits
from convoy.data.blocked import SLOTS, BlockedOrder
from convoy.data.config import DataConfig
from convoy.data.permutation import permuted
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.sources.opening import open_dataset


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000])
def test_a_permutation_of_any_size_is_one(size):
    for key in (0, 1, 2**63):
        keys = np.full(size, key, np.uint64)
        shown = permuted(np.arange(size), np.full(size, size), keys)
        assert np.array_equal(np.sort(shown), np.arange(size))


@pytest.mark.parametrize("size", [3, 8, 33])
def test_keys_permute_evenly(size):
    keys = np.random.default_rng(0).integers(0, 2**63, 3000).astype(np.uint64)
    shown = permuted(np.tile(np.arange(size), 3000), np.full(3000 * size, size), np.repeat(keys, size)).reshape(
        -1, size
    )
    counts = np.array([np.bincount(column, minlength=size) for column in shown.T])
    # Chi-square in each degree of freedom: 1 in the mean, and 3 beyond chance.
    assert ((counts - 3000 / size) ** 2 / (3000 / size)).sum() / (size - 1) ** 2 < 3


def test_every_epoch_is_a_permutation_whatever_the_numbers():
    generator = random.Random(seed := 5)
    for _ in range(300):
        examples = generator.choice([1, 2, 5, 63, 64, 65, 257, 1437, generator.randrange(1, 3000)])
        block = generator.choice([1, 2, 3, 8, 16, 64, 100, 5000])
        batch, epoch = generator.choice([1, 2, 3, 7, 12, 32, 64, 96, 127, 128, 200]), generator.choice([0, 1, 7, 10**6])
        order = BlockedOrder(examples, block, batch, generator.randrange(100))
        shown = order.indices(np.arange(epoch * examples, (epoch + 2) * examples))
        for half in (shown[:examples], shown[examples:]):
            assert np.array_equal(np.sort(half), np.arange(examples)), (seed, order)


def test_a_position_does_not_depend_on_how_it_is_asked_for():
    order = BlockedOrder(1437, 16, 96, 3)
    whole = order.indices(np.arange(5000))
    assert np.array_equal(whole[1234:4321], order.indices(np.arange(1234, 4321)))
    assert all(order.indices(np.array([p]))[0] == whole[p] for p in (0, 1436, 1437, 4999))


def test_epochs_seeds_blocks_and_batches_differ():
    orders = [BlockedOrder(2000, *numbers) for numbers in ((16, 64, 0), (16, 64, 1), (32, 64, 0), (16, 128, 0))]
    streams = [order.indices(np.arange(2000)) for order in orders] + [orders[0].indices(np.arange(2000, 4000))]
    for number, stream in enumerate(streams):
        for other in streams[:number]:
            assert (stream == other).sum() < 25  # two random permutations agree in one place on average


def test_the_order_of_a_run_stays():
    # Written down once: another order would mean other bits for every run there ever was.
    assert BlockedOrder(1000, 16, 64, 7).indices(np.array([0, 1, 500, 999, 1000, 123_456])).tolist() == [
        769,
        255,
        138,
        558,
        776,
        546,
    ]


def test_a_process_of_four_needs_a_quarter_of_the_blocks_and_each_for_a_short_time():
    order = BlockedOrder(64 * 512 + 5, 64, 128, 0)
    assert order.lanes == 64
    positions = np.arange(order.examples)
    blocks, needs = order.indices(positions) // 64, []
    for process in range(4):
        own = positions % 128 // 32 == process
        needs.append(set(blocks[own].tolist()))
        first, last = {}, {}
        for position, block in zip(positions[own].tolist(), blocks[own].tolist(), strict=True):
            first.setdefault(block, position)
            last[block] = position
        # But for a block that two lanes share: the end of one and the begin of the next.
        long = [block for block in first if last[block] - first[block] > order.window_positions]
        assert len(long) <= 16
    assert sum(map(len, needs)) <= 513 + 3
    assert all(len(need) <= 513 / 4 + 1 for need in needs)


def test_examples_of_a_batch_come_from_all_over_the_data():
    order = BlockedOrder(100_000, 64, 128, 0)
    blocks = order.indices(np.arange(12_800)).reshape(100, 128) // 64
    assert min(len(np.unique(batch)) for batch in blocks) > 90
    assert SLOTS > 1


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_see_what_a_single_one_sees(processes):
    config = DataConfig("synthetic:4x4x3:3:130", augment="mixup:0.2", order="blocked:8")
    examples = open_dataset(config).split("train")

    def batches(sharding):
        stream = training_stream(examples, sharding, config, 5, 14).take(12)
        return [
            np.concatenate([array.reshape(len(array), -1) for array in batch], 1)
            for batch in stream.as_numpy_iterator()
        ]

    whole = batches(BatchSharding(16))
    parts = [batches(BatchSharding(16, 1, processes, process)) for process in range(processes)]
    for step, batch in enumerate(whole):
        assert np.array_equal(batch, np.concatenate([part[step] for part in parts]))


def test_sentences():
    for order in ("blocked", "blocked:0", "blocked:-1", "blocked:x", "blocked:2000000", "full:3", ""):
        with pytest.raises(exits.CannotRun, match="give full, or blocked:N with N from 1 to 1,048,576"):
            DataConfig(order=order)
    with pytest.raises(exits.CannotRun, match="leave one of the two out"):
        DataConfig(order="blocked:8", balance="sqrt")
