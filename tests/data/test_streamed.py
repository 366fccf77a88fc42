"""Records read from a bucket while a run goes on: the pixels of a copy, each byte by the process that needs it, and no other."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.records import ahead, mirror, plan
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.store import open_store
from fault_proxy import FaultProxy
from strict_bucket import StrictBucket

URL = "gs://bucket/packed/set"
EXAMPLES, SIDE = 2000, 6  # of train; `test` has as many as the source gives


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Small images of three classes as pixels, in several shards. Nobody changes them."""
    root = tmp_path_factory.mktemp("packed")
    pack(DataConfig(f"synthetic:{SIDE}x{SIDE}x3:3:{EXAMPLES}"), root, 40_000)
    return root


@pytest.fixture
def server(packed, tmp_path, monkeypatch):
    with StrictBucket() as server:
        server.create("bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.host)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
        mirror.send(packed, URL)
        server.sent.clear()
        yield server


def streamed(**flags):
    return DataConfig(f"records:{URL}", **{"order": "blocked:8", "eval_split": "none", **flags})


def batches(config, count, sharding=None, first=0, examples=None):
    """So many batches of a training stream: one array of each array of all."""
    examples = examples or open_splits(config).train
    stream = training_stream(examples, sharding or BatchSharding(32), config, 3, first).take(count)
    taken = list(stream.as_numpy_iterator())
    return [np.concatenate(arrays) for arrays in zip(*taken, strict=True)]


def assert_same(ours, theirs):
    for array, other in zip(ours, theirs, strict=True):
        assert np.array_equal(array, other)


def shard_bytes(server):
    return sum(size for name, _, size in server.sent if name.endswith(".tfrecord"))


@pytest.mark.parametrize("flags", [{}, {"eval_split": "hash:0.2"}, {"augment": "mixup:0.3"}], ids=str)
def test_streamed_copied_and_local_records_are_the_same(server, packed, flags):
    local = batches(DataConfig(f"records:{packed}", **{"order": "blocked:8", "eval_split": "none", **flags}), 140)
    assert_same(batches(streamed(**flags), 140), local)
    assert_same(batches(streamed(**flags), 20, first=1919), batches(DataConfig(f"records:{packed}", **{"order": "blocked:8", "eval_split": "none", **flags}), 20, first=1919))
