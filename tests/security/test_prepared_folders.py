"""A stranger's prepared TFDS data set, or its name: errors are sentences, and nothing waits or leads outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.opening import open_dataset
from mutations import SEED, case, document, untouched
from run_files import KINDS, instead

SHARD, INFO, FEATURES = "mine-train.tfrecord-00000-of-00001", "dataset_info.json", "features.json"
TFDS = "tensorflow_datasets.core.features"
FEATURES_DOCUMENT = {
    "pythonClassName": f"{TFDS}.features_dict.FeaturesDict",
    "featuresDict": {"features": {
        "image": {"pythonClassName": f"{TFDS}.image_feature.Image",
                  "image": {"dtype": "uint8", "shape": {"dimensions": ["8", "8", "3"]}}},
        "label": {"pythonClassName": f"{TFDS}.class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}}}},
}  # fmt: skip
SPLIT = {"name": "train", "numBytes": "400", "shardLengths": ["4"],
         "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}  # fmt: skip
INFO_DOCUMENT = {"name": "mine", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [SPLIT]}


def with_split(**changed: Any) -> dict:
    return {**INFO_DOCUMENT, "splits": [{**SPLIT, **changed}]}


def with_features(**changed: Any) -> dict:
    return {**FEATURES_DOCUMENT, "featuresDict": {"features": changed}}


@pytest.fixture
def prepared(tmp_path) -> Path:
    """TFDS/mine/1.0.0, four images of two classes."""
    folder = tmp_path / "tfds" / "mine" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / INFO).write_text(json.dumps(INFO_DOCUMENT))
    (folder / FEATURES).write_text(json.dumps(FEATURES_DOCUMENT))
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    with tf.io.TFRecordWriter(str(folder / SHARD)) as shard:
        for number in range(4):
            image = tf.io.encode_png(np.full((8, 8, 3), number, np.uint8)).numpy()
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
            }
            shard.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return folder


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """Ends the process if a test waits for a pipe in C++, where no exception can reach it."""
    signal.alarm(100)
    yield
    signal.alarm(0)


def opened(prepared: Path, **flags: Any) -> Any:
    """Opens and reads the examples."""
    config = DataConfig("mine", data_dir=str(prepared.parent.parent), **flags)
    return open_dataset(config, download=False).split("train")


def refused(read: Callable[[], object], *words: str) -> str:
    with pytest.raises((exits.BadData, exits.CannotRun)) as caught:
        read()
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 1500
    assert all(word in sentence for word in words), sentence
    return sentence


def test_a_prepared_folder_is_read_through_links_and_beside_missing_files(prepared, tmp_path):
    (tmp_path / "store").mkdir()
    (prepared / SHARD).rename(tmp_path / "store" / SHARD)
    (prepared / SHARD).symlink_to(tmp_path / "store" / SHARD)
    (prepared / "gone.txt").symlink_to(tmp_path / "gone")
    (prepared.parent / "0.9.0").symlink_to(tmp_path / "gone")
    (prepared.parent / "1.0.0.incompleteABC").mkdir()
    (prepared.parent / "1.0.0.incompleteABC" / INFO).write_text("")
    assert opened(prepared).labels.tolist() == [0, 1, 0, 1]


def test_files_may_lie_in_folders_below(prepared):
    (prepared / "train").mkdir()
    (prepared / SHARD).rename(prepared / "train" / "0.tfrecord")
    (prepared / INFO).write_text(json.dumps(with_split(filepathTemplate="{SPLIT}/0.{FILEFORMAT}")))
    assert len(opened(prepared)) == 4
    (prepared / "train" / "0.tfrecord").unlink()
    os.mkfifo(prepared / "train" / "0.tfrecord")
    refused(lambda: opened(prepared), str(prepared), "no regular file")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "link outside"])
@pytest.mark.parametrize("name", [INFO, FEATURES, "label.labels.txt", SHARD, "../.config/metadata.json"])
def test_no_pipe_link_or_device_is_read_as_a_file(prepared, tmp_path, name, kind):
    if name == "label.labels.txt" and kind == "folder":
        return  # TFDS then names classes by number
    (prepared.parent / ".config").mkdir()
    instead(prepared / name, kind, tmp_path)
    if kind == "device":  # /dev/zero would fill the reader's memory
        (prepared / name).unlink()
        (prepared / name).symlink_to("/dev/null")
    refused(lambda: opened(prepared), str(prepared.parent))


@pytest.mark.parametrize("name", [INFO, FEATURES, "label.labels.txt"])
def test_a_document_of_a_tebibyte_is_not_read(prepared, name):
    os.truncate(prepared / name, 1 << 40)
    refused(lambda: opened(prepared), str(prepared / name), "bytes")


@pytest.mark.parametrize(
    "info",
    [
        "{", "[]", "null", '{"name": 1}', "[" * 10_000, '{"x":' * 10_000, b"\xff",
        {}, {**INFO_DOCUMENT, "version": "x"}, {**INFO_DOCUMENT, "fileFormat": "x"}, {**INFO_DOCUMENT, "splits": [{}]},
        *(with_split(shardLengths=lengths) for lengths in (["x"], ["-2"], ["6", "-2"], [], 4, ["1" * 30])),
        *(with_split(filepathTemplate=template) for template in
          ("{NOPE}", "{", "../../../../../../etc/{SPLIT}", "/etc/{SPLIT}", "{SPLIT.__class__}", "{SHARD_X_OF_Y:>9999999999}",
           "\0", "x" * 5000)),
        with_split(name="../../train", filepathTemplate="{SPLIT}"),
        with_split(name=""),
    ],
)  # fmt: skip
def test_a_description_of_another_kind_is_a_sentence(prepared, info):
    (prepared / INFO).write_bytes(
        info if isinstance(info, bytes) else info.encode() if isinstance(info, str) else json.dumps(info).encode()
    )
    refused(lambda: opened(prepared, cache_bytes=1 << 60), str(prepared.parent))


@pytest.mark.parametrize(
    "features",
    [
        "{", "[]", "[" * 10_000, b"\xff", {}, {"pythonClassName": FEATURES_DOCUMENT["pythonClassName"]},
        with_features(image=3), {"type": "x"}, {"type": 3, "content": {}},
        with_features(
            image=FEATURES_DOCUMENT["featuresDict"]["features"]["image"],
            label={"pythonClassName": f"{TFDS}.class_label_feature.ClassLabel", "classLabel": {"numClasses": str(10**12)}},
        ),
    ],
)  # fmt: skip
def test_features_of_another_kind_are_a_sentence(prepared, features):
    (prepared / FEATURES).write_bytes(
        features
        if isinstance(features, bytes)
        else features.encode()
        if isinstance(features, str)
        else json.dumps(features).encode()
    )
    (prepared / "label.labels.txt").unlink()
    refused(lambda: opened(prepared), str(prepared.parent))


@pytest.mark.slow
def test_any_prepared_folder_is_right_or_a_sentence(prepared):
    """With one error in a document or the shard, nothing outside is touched, and only typed errors come."""
    right = {INFO: INFO_DOCUMENT, FEATURES: FEATURES_DOCUMENT}
    with untouched(prepared.parent.parent.parent, prepared):
        for number in range(60):
            with case(SEED, number) as chance:
                name = chance.choice(list(right))
                (prepared / name).write_bytes(document(right[name], chance))
                with contextlib.suppress(exits.BadData, exits.CannotRun):
                    opened(prepared)
                (prepared / name).write_text(json.dumps(right[name]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10/data_dir=/x", "arguments"), ("cifar10/foo=1", "arguments"), ("mnist/x/a=1,b=2", "arguments"),
        ("cifar10:9.9.9", "9.9.9"), ("cifar10/foo", "foo"), ("cifar10:", "cifar10"), ("cifar10/", "cifar10"),
        ("/", "/"), ("..", ".."),
    ],
)  # fmt: skip
def test_an_impossible_name_is_a_sentence(tmp_path, name, words):
    refused(lambda: open_dataset(DataConfig(name, data_dir=str(tmp_path)), download=False), words)


def test_a_split_larger_than_memory_is_refused_whatever_the_configuration_says(prepared):
    (prepared / INFO).write_text(json.dumps(with_split(shardLengths=[str(10**9)])))
    refused(lambda: opened(prepared, cache_bytes=1 << 60, image_size=4096), "memory", "50,331,648,000,000,000 bytes")
