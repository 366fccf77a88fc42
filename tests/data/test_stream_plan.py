"""The plan of a stream: every read of its schedule once, pieces in the order of need, and few bytes at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convoy.data.blocked import BlockedOrder
from convoy.data.pipeline import BatchSharding
from convoy.data.records.index import AFTER, BEFORE, RECORD
from convoy.data.records.pieces import MAX_GAP, MAX_REQUEST, requests
from convoy.data.records.plan import planned, working_set
from convoy.data.schedule import Schedule


def index_of(count, shards=3, length=1000):
    """RECORDs of shards of equal size."""
    records = np.zeros(count, RECORD)
    numbers = np.arange(count)
    records["shard"] = numbers * shards // count
    firsts = np.searchsorted(records["shard"], records["shard"])
    records["offset"], records["length"] = BEFORE + (numbers - firsts) * (length + BEFORE + AFTER), length
    return records


def schedule_of(examples, block, batch, sharding, first=0, aligned=True, steps=0):
    runs = [run for replica in range(sharding.local_replicas) for run in sharding.runs(replica)]
    return Schedule(BlockedOrder(examples, block, batch, 3), first, sharding.batch_size, tuple(runs), aligned, steps)


@pytest.mark.parametrize(
    ("examples", "block", "batch", "sharding", "first", "aligned"),
    [
        (3000, 16, 64, BatchSharding(64), 0, True),
        (3000, 16, 64, BatchSharding(64, 1, 4, 2), 2711, True),
        (3000, 16, 64, BatchSharding(64, 3, 4, 1, 2), 0, True),
        (1001, 7, 64, BatchSharding(16, 1, 2, 1), 33, False),  # a smaller batch of a ramp, with partners
        (50, 100, 12, BatchSharding(12, 1, 3), 5, False),
        (3000, 16, 127, BatchSharding(127), 9, True),
    ],
)
def test_every_read_of_the_schedule_is_planned_once_and_in_order(examples, block, batch, sharding, first, aligned):
    schedule = schedule_of(examples, block, batch, sharding, first, aligned)
    rows = np.delete(np.arange(examples + examples // 5), np.arange(examples // 5) * 6)[:examples]  # some are held out
    steps = 2 * examples // sharding.batch_size + 3
    wanted = rows[schedule.order.indices(schedule.positions(0, steps))]
    reads = {}
    for chunk in planned(schedule, rows, index_of(rows[-1] + 1)):
        firsts = [piece.first_read for piece in chunk.pieces]
        assert firsts == sorted(firsts)
        for piece in chunk.pieces:
            assert set(piece.rows.tolist()) == {row for _, row in piece.reads}
            assert piece.bytes == 1000 * len(piece.rows)
            assert not reads.keys() & {number for number, _ in piece.reads}
            reads |= dict(piece.reads)
        done = (chunk.end - first) // sharding.batch_size * (len(wanted) // steps)
        assert all(number in reads for number in range(done))
        if done >= len(wanted):
            break
    assert [reads[number] for number in range(len(wanted))] == wanted.tolist()


def test_nothing_beyond_the_last_step_is_planned_until_it_is_asked_for():
    schedule = schedule_of(3000, 16, 64, BatchSharding(64), steps=20)
    rows, index = np.arange(3000), index_of(3000)
    chunks = list(itertools.islice(planned(schedule, rows, index), 3))
    assert sum(len(piece.reads) for piece in chunks[0].pieces) == 20 * 64
    assert [chunk.end for chunk in chunks] == [20 * 64, 21 * 64, 22 * 64]


def test_an_epoch_reads_each_record_once_and_needs_few_bytes_at_a_time():
    schedule = schedule_of(64 * 400, 16, 64, BatchSharding(64, 1, 4), steps=400)
    pieces = [piece for chunk in itertools.islice(planned(schedule, np.arange(64 * 400), index_of(64 * 400)), 3)
              for piece in chunk.pieces if piece.first_read < 400 * 16]  # fmt: skip
    rows = np.concatenate([piece.rows for piece in pieces])
    assert len(rows) == len(np.unique(rows)) == 16 * 400
    # 64 lanes of four processes, in windows of 8 blocks of 16 records.
    assert working_set(pieces) < 1.2 * 64 / 4 * 8 * 16 * 1000


def test_requests_read_no_record_that_somebody_else_needs():
    records = index_of(30, shards=2)[[0, 1, 3, 4, 14, 15, 20]]
    next_to = np.array([True, False, True, True, True, True])
    assert requests(records, next_to) == [(0, 2), (2, 5), (5, 7)]


def test_requests_have_bounds():
    records = index_of(10, shards=1, length=MAX_REQUEST // 2 - 100)
    assert requests(records, np.ones(9, bool)) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    large = index_of(3, shards=1, length=2 * MAX_REQUEST)
    assert requests(large, np.ones(2, bool)) == [(0, 1), (1, 2), (2, 3)]
    far = index_of(MAX_GAP // 1000 + 10, shards=1)
    assert requests(far[[0, len(far) - 1]], np.ones(1, bool)) == [(0, 1), (1, 2)]
