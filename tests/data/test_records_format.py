"""Packed records as files: others read them too, and every flaw is found and named."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as some

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.probe import Kind
from convoy.data.records import format
from convoy.data.records.index import read_index
from convoy.data.records.packing import pack

sys.path.append(str(Path(__file__).parent))
from fuzz_records import mutated, outcome, read_all

SHARD = "train-00001-of-00004.tfrecord"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """40 and 8 packed images of 8x6x3 pixels, a dozen a shard."""
    root = tmp_path_factory.mktemp("packed") / "whole"
    pack(DataConfig("synthetic:8x6x3:3:40"), root, 12 * 8 * 6 * 3)
    return root


@pytest.fixture
def packed(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "packed")


def test_tensorflow_reads_the_shards_alone(whole):
    images, labels = read_all(whole)["train"]
    shards = sorted(str(path) for path in whole.glob("train-*.tfrecord"))
    assert len(shards) == 4
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/channels": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(shards)]
    assert [int(one["image/class/label"]) for one in parsed] == labels.tolist()
    assert {one["image/format"].numpy() for one in parsed} == {b"raw"}
    for one, image in zip(parsed, images, strict=True):
        shape = [int(one[f"image/{side}"]) for side in ("height", "width", "channels")]
        assert np.array_equal(np.frombuffer(one["image/encoded"].numpy(), np.uint8).reshape(shape), image)


contents = some.lists(some.binary(min_size=1, max_size=300), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@given(contents=contents, seed=some.integers(0, 2**32 - 1))
def test_every_row_is_read_as_it_was_written(tmp_path_factory, contents, seed):
    folder = tmp_path_factory.mktemp("shards")
    generator = np.random.default_rng(seed)
    cut = int(generator.integers(len(contents) + 1))
    images = [format.Packed(content, Kind.PNG, (1, 2, 3), row, row / 64) for row, content in enumerate(contents)]
    paths, index = [], []
    for shard, part in enumerate(part for part in (images[:cut], images[cut:]) if part):
        paths.append(folder / f"{shard}.tfrecord")
        index.append(format.write_shard(paths[-1], shard, part))
        assert format.verify_shard(paths[-1], index[-1]).bytes == paths[-1].stat().st_size
    format.write_index(folder / "index.npy", np.concatenate(index))
    shards = format.Shards(paths, read_index(folder / "index.npy"))
    rows = generator.integers(len(contents), size=50)
    assert shards.images(rows) == [contents[row] for row in rows]
    assert shards.index["label"].tolist() == list(range(len(contents)))
    assert shards.index["content_hash"].tolist() == [row / 64 for row in range(len(contents))]


def flip(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 8
    path.write_bytes(content)


def spoil(root: Path, flaw: str) -> None:
    if flaw == "flipped byte":
        index = read_index(root / "train.index.npy")
        flip(root / SHARD, int(index["offset"][12 + 5]) + 60)
    elif flaw == "truncated shard":
        (root / SHARD).write_bytes((root / SHARD).read_bytes()[:-1])
    elif flaw == "missing shard":
        (root / SHARD).unlink()
    elif flaw == "flipped index":
        flip(root / "train.index.npy", 700)
    elif flaw == "truncated index":
        (root / "train.index.npy").write_bytes(b"\x93NUMPY")
    elif flaw == "missing index":
        (root / "train.index.npy").unlink()
    elif flaw == "index of another packing":
        shutil.copy(root / "test.index.npy", root / "train.index.npy")
    elif flaw == "flipped manifest":
        text = (root / "MANIFEST.json").read_text()
        (root / "MANIFEST.json").write_text(text.replace("class1", "klass1"))
    elif flaw == "killed while packing":
        (root / "MANIFEST.json").rename(root / "PACKING.json")


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("flipped byte", ["record 5 of", SHARD, "cannot be read: its checksum is wrong", "convoy data pack"]),
        ("truncated shard", [SHARD, "bytes of"]),
        ("missing shard", [SHARD, "no such file"]),
        ("flipped index", ["train.index.npy", "not as it was packed"]),
        ("truncated index", ["train.index.npy", "not as it was packed"]),
        ("missing index", ["train.index.npy", "no such file"]),
        ("index of another packing", ["train.index.npy", "not as it was packed"]),
        ("flipped manifest", ["MANIFEST.json", "not as it was written"]),
        ("killed while packing", ["not packed to its end", "the same `convoy data pack` again"]),
    ],
)
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_every_flaw_is_named(packed, flaw, words, cache_bytes):
    spoil(packed, flaw)
    with pytest.raises(exits.BadData) as error:
        read_all(packed, cache_bytes)
    assert all(word in str(error.value) for word in words), error.value


def test_other_folders_are_no_records(packed, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, words in {"empty": "has no MANIFEST.json", "nowhere": "is no folder"}.items():
        with pytest.raises(exits.CannotRun, match=f"records:{tmp_path / name}.*{words}"):
            read_all(tmp_path / name)
    with pytest.raises(exits.CannotRun, match="write records:DIR"):
        DataConfig("records:")
    manifest = json.loads((packed / "MANIFEST.json").read_text())
    del manifest["crc32c"]
    manifest["plan"]["schema"] = 2
    format.write_json(packed / "MANIFEST.json", manifest)
    with pytest.raises(exits.CannotRun, match="schema 2"):
        read_all(packed)


@pytest.mark.slow
def test_mutations_are_refused_or_change_nothing(packed):
    generator = np.random.default_rng(20261125)
    names = sorted(path.name for path in packed.iterdir() if path.stat().st_size)
    outcomes = []
    for number in range(60):
        name = names[number % len(names)]
        outcomes.append(outcome(packed, name, mutated((packed / name).read_bytes(), generator)))
    assert len(names) == 8
    # Bytes around the data of a record, which TFRecord's own readers check, are not read here.
    assert outcomes.count("refused") >= 48, outcomes


def test_more_shards_than_files_may_be_open(tmp_path):
    pack(DataConfig("synthetic:2x2x1:2:60"), tmp_path / "packed", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, before[1]))
    try:
        assert len(read_all(tmp_path / "packed")["train"][0]) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
