"""Records read from a bucket while a run goes on: the pixels of a copy, and each byte by the process that needs it."""

from __future__ import annotations

import os
import re
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import send

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.order import PositionRanges
from convoy.data.pipeline import BatchSharding, blocked_order, evaluation_batches, training_stream
from convoy.data.records import mirror
from convoy.data.records.index import read_index
from convoy.data.records.manifest import MANIFEST
from convoy.data.records.packing import pack
from convoy.data.records.streamed import Source
from convoy.data.schedule import Schedule
from convoy.store import open_store
from fault_proxy import FaultProxy
from strict_bucket import StrictBucket

pytestmark = pytest.mark.slow

URL = "gs://bucket/packed/set"
EXAMPLES, BLOCK, BATCH = 1600, 25, 32
LOCAL = {"order": f"blocked:{BLOCK}", "eval_split": "none", "cache_bytes": 0}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Small images of three classes as pixels, in several shards. Nobody changes them."""
    root = tmp_path_factory.mktemp("packed")
    pack(DataConfig(f"synthetic:6x6x3:3:{EXAMPLES}"), root, 40_000)
    return root


@pytest.fixture
def server(packed, tmp_path, monkeypatch):
    with StrictBucket() as server:
        server.create("bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.host)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        monkeypatch.setattr("convoy.data.records.plan._MIN_READS", 1)
        send(packed, URL)
        server.sent.clear()
        begin, begun = Source.begin, []
        monkeypatch.setattr(Source, "begin", lambda self, ahead: (begun.append(ahead), begin(self, ahead)))
        yield server
        for ahead in begun:
            ahead.stop()


def streamed(**flags):
    return DataConfig(f"records:{URL}", **{**LOCAL, **flags})


def batches(config, count, sharding=None, first=0):
    """Of so many batches, each kind of array."""
    stream = training_stream(open_splits(config).train, sharding or BatchSharding(BATCH), config, 3, first, steps=count)
    return [np.concatenate(arrays) for arrays in zip(*stream.take(count).as_numpy_iterator(), strict=True)]


def walk(config, steps, process=0, processes=1, first=0, batch=BATCH):
    """The images of so many steps as a process reads them, without the threads that draw batches beforehand."""
    examples = open_splits(config).train
    order = blocked_order(examples, config, 3, batch)
    (run,) = BatchSharding(batch, 1, processes, process).runs(0)
    fetch = examples.along(Schedule(order, first, batch, (run,), steps=steps)).fetcher()
    for start in range(first + run[0], first + run[0] + steps * batch, batch):
        positions = PositionRanges([(tf.constant(start, tf.int64), run[1])], 3)
        yield fetch(tf.constant(order.indices(positions.positions.numpy())), positions).images.numpy()


def shard_reads(server):
    return [read for read in server.sent if read[0].endswith(".tfrecord")]


def offsets(packed, rows):
    """(shard, first byte, end) of the data of training records."""
    records = read_index(packed / "train.index.npy")[rows]
    return {
        (shard, offset, offset + length) for shard, offset, length in records[["shard", "offset", "length"]].tolist()
    }


def overlap(reads, places):
    """Whether one of these reads has a byte of one of these places."""
    for name, first, size in reads:
        shard = int(re.search(r"-(\d{5})-of", name)[1])
        if any(shard == place and first < end and begin < first + size for place, begin, end in places):
            return True
    return False


@pytest.mark.parametrize("flags", [{}, {"eval_split": "hash:0.2"}, {"augment": "mixup:0.3"}], ids=str)
def test_streamed_and_local_records_give_the_same_pixels(server, packed, flags):
    local = DataConfig(f"records:{packed}", **{**LOCAL, **flags})
    for first, count in ((0, 60), (1919, 4)):
        for ours, theirs in zip(
            batches(streamed(**flags), count, first=first), batches(local, count, first=first), strict=True
        ):
            assert np.array_equal(ours, theirs)


def test_files_are_streamed_as_pixels_are(server, kinds):
    send(kinds[1], "gs://bucket/packed/kinds")
    flags = {**LOCAL, "order": "blocked:2", "image_size": 32, "augment": "resized"}
    ours, theirs = (
        batches(DataConfig(name, **flags), 4) for name in ("records:gs://bucket/packed/kinds", f"records:{kinds[1]}")
    )
    for array, other in zip(ours, theirs, strict=True):
        assert np.array_equal(array, other)


def test_four_processes_read_a_quarter_each_and_together_every_record_once(server, packed):
    shards = sorted(packed.glob("train-*"))
    every = sum(path.stat().st_size for path in shards)
    block, read = 25 * 300, []
    for process in range(4):
        server.sent.clear()
        for _ in walk(streamed(), EXAMPLES // BATCH, process, 4):
            pass
        read.append(sum(size for _, _, size in shard_reads(server)))
        assert read[-1] <= every / 4 + block * len(shards)
    assert sum(read) <= every


def test_resuming_at_ninety_per_cent_reads_nothing_of_the_first_eighty_nine(server, packed):
    config, order = streamed(), blocked_order(range(EXAMPLES), streamed(), 3, BATCH)
    for _ in walk(config, 5, first=int(0.9 * EXAMPLES)):
        pass
    before = order.indices(np.arange(int(0.89 * EXAMPLES)))
    assert shard_reads(server)
    assert not overlap(shard_reads(server), offsets(packed, before))


def test_each_record_is_read_once_an_epoch_and_nothing_beyond_the_end(server, packed):
    for _ in walk(streamed(), EXAMPLES // BATCH):
        pass
    reads = shard_reads(server)
    spans = [(name, byte) for name, first, size in reads for byte in range(first, first + size)]
    assert len(spans) == len(set(spans))
    assert {name for name, _, _ in reads} == {f"packed/set/{path.name}" for path in packed.glob("train-*")}


def test_processes_with_any_share_of_the_lanes_read_right(server, packed):
    local = DataConfig(f"records:{packed}", **LOCAL)
    whole = batches(local, 12)
    for processes, microbatches in ((4, 1), (2, 4)):
        parts = [
            batches(streamed(), 12, BatchSharding(BATCH, microbatches, processes, process))
            for process in range(processes)
        ]
        rows = np.argsort(np.concatenate([part[3][:, 0] for part in parts]))
        for index, array in enumerate(whole):
            joined = np.concatenate([part[index] for part in parts])[rows]
            assert np.array_equal(joined, array[np.argsort(whole[3][:, 0])])


def test_evaluations_read_their_split_once_and_keep_it(server, packed):
    for flags in ({"eval_split": "hash:0.2"}, {}):
        server.sent.clear()
        ours, theirs = (
            open_splits(streamed(**flags)),
            open_splits(DataConfig(f"records:{packed}", **{**LOCAL, **flags})),
        )
        for _ in range(2):
            here, there = (evaluation_batches(opened.final[1], 50).as_numpy_iterator() for opened in (ours, theirs))
            for batch, other in zip(here, there, strict=True):
                for array, same in zip(batch, other, strict=True):
                    assert np.array_equal(array, same)
            seen = len(shard_reads(server))
        assert seen == len(shard_reads(server)) < 40
        if flags:
            assert {name.rpartition("/")[2].split("-")[0] for name, _, _ in shard_reads(server)} == {"test"}


def test_a_storage_that_fails_at_random_changes_nothing(server, packed, monkeypatch):
    local = batches(DataConfig(f"records:{packed}", **LOCAL), 50)
    with FaultProxy(server.host, seed=7, rate=0.2, seconds=0.05) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setattr("convoy.store.gcs_errors.PAUSE_SECONDS", (0.01, 0.05))
        for ours, theirs in zip(batches(streamed(), 50), local, strict=True):
            assert np.array_equal(ours, theirs)
        assert proxy.count("GET", "alt=media") > 60


def ends(config, kind, words):
    """What a reader of a training stream hears in the end."""
    opened = open_splits(config)
    stream = training_stream(opened.train, BatchSharding(BATCH), config, 3, 0)
    with pytest.raises(tf.errors.OpError):
        for _ in stream.take(60):
            pass
    with pytest.raises(kind, match=words):
        raise exits.BadData(sentence) if (sentence := opened.train.explain()) else AssertionError("no reason")


def test_a_storage_that_goes_away_is_worth_another_try(server, monkeypatch):
    monkeypatch.setattr("convoy.store.gcs_bucket.DEADLINE_SECONDS", 0.2)
    config = streamed()
    opened = open_splits(config)
    stream = training_stream(opened.train, BatchSharding(BATCH), config, 3, 0)
    server.stop()
    with pytest.raises(tf.errors.OpError):
        next(stream.as_numpy_iterator())
    with pytest.raises(exits.TryAgain, match="the same command will continue"):
        opened.train.explain()


def test_a_full_disk_is_a_sentence(server, monkeypatch):
    def full(file, data, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    ends(streamed(), exits.CannotRun, "cannot keep what is read ahead in .*: no space left on device; make room there")


def test_a_budget_that_is_too_small_is_a_sentence(server):
    ends(streamed(cache_gb=5e-5), exits.CannotRun, "--cache_gb=5e-05 is too little for --order=blocked:25")


def test_the_disk_holds_no_more_than_its_budget(server, monkeypatch):
    from convoy.data.records import ahead

    config, held = streamed(cache_gb=2e-4, order="blocked:8"), []
    admitted = ahead.Ahead._admitted

    def note(self):
        bringing = admitted(self)
        held.append(self._bytes)
        return bringing

    monkeypatch.setattr(ahead.Ahead, "_admitted", note)
    for _ in walk(config, EXAMPLES // 8, batch=8):
        pass
    assert max(held) <= 0.75 * 2e-4 * 2**30
    assert len(held) > 200


def test_a_record_that_is_damaged_in_the_bucket_is_named(server, packed):
    store = open_store(URL)
    name = sorted(path.name for path in packed.glob("train-*"))[1]
    content = bytearray((packed / name).read_bytes())
    content[100] ^= 1
    store.put(name, bytes(content))
    ends(streamed(), exits.BadData, f"record 0 of {URL}/{name} cannot be read: its checksum is wrong")


@pytest.mark.parametrize("policy", ["skip", "substitute"])
def test_damaged_records_are_left_out_as_those_of_a_copy_are(server, packed, tmp_path, policy):
    shutil.copytree(packed, tmp_path / "damaged")
    path = sorted((tmp_path / "damaged").glob("train-*"))[0]
    content = bytearray(path.read_bytes())
    for place in (100, 5000, 5300):
        content[place] ^= 1
    path.write_bytes(content)
    open_store(URL).put(path.name, bytes(content))
    flags = {"bad_images": policy, "max_bad_fraction": 0.1}
    local = batches(DataConfig(f"records:{tmp_path / 'damaged'}", **LOCAL, **flags), 55)
    for ours, theirs in zip(batches(streamed(**flags), 55), local, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_shard_that_is_short_or_missing_is_named(server, packed):
    store, name = open_store(URL), sorted(path.name for path in packed.glob("train-*"))[1]
    store.put(name, (packed / name).read_bytes()[:5000])
    ends(streamed(), exits.BadData, f"{URL}/{name} ends before byte")
    store.remove(name)
    ends(streamed(), exits.BadData, f"{URL} has no {name}, which its manifest names")


def test_streaming_leaves_nothing_behind_and_no_copy_that_looks_whole(server, tmp_path, packed):
    for config in (streamed(), streamed(eval_split="hash:0.2")):
        for _ in walk(config, 3):
            pass
    names = sorted(
        path.relative_to(tmp_path / "caches").as_posix() for path in (tmp_path / "caches").rglob("*") if path.is_file()
    )
    place = "convoy/records/bucket/packed/set/.streamed/"
    assert names == [place + name for name in (".copying.lock", MANIFEST, "test.index.npy", "train.index.npy")]
    # The whole copy does not take the other's manifest for its own.
    root = mirror.mirrored(URL, "")
    assert sorted(path.name for path in root.iterdir() if path.is_file() and path.name[0] != ".") == sorted(
        path.name for path in packed.iterdir() if path.name[0] != "."
    )


def test_a_second_stream_ends_the_first(server):
    examples, others = open_splits(streamed()).train, {*threading.enumerate()}
    first = iter(training_stream(examples, BatchSharding(BATCH), streamed(), 3, 0))
    next(first)
    before = [thread for thread in threading.enumerate() if thread.name.startswith("ahead-") and thread not in others]
    assert before
    second = iter(training_stream(examples, BatchSharding(BATCH), streamed(), 3, 320))
    next(second)
    for thread in before:
        thread.join(20)
    assert not any(thread.is_alive() for thread in before)
