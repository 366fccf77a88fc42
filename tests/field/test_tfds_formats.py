"""Data that TFDS has prepared as array_record, of which it makes no tf.data, or parquet is read like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.opening import open_dataset

NOISE = np.random.default_rng(6).integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
SHARDS = (3, 2)  # examples in each


def prepared(root: Path, format: str, dtype: str = "uint8") -> str:
    """A data set `mine` of five images in two shards; the --data_dir of it."""
    folder = root / "mine" / "1.0.0"
    folder.mkdir(parents=True)
    features = "tensorflow_datasets.core.features"
    image = {"dtype": dtype, "shape": {"dimensions": ["8", "9", "3"]}}
    columns = {
        "image": {"pythonClassName": f"{features}.image_feature.Image", "image": image},
        "label": {"pythonClassName": f"{features}.class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}},
    }
    names = {"pythonClassName": f"{features}.features_dict.FeaturesDict", "featuresDict": {"features": columns}}
    split = {"name": "train", "numBytes": "400", "shardLengths": list(map(str, SHARDS)),
             "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}  # fmt: skip
    info = {"name": "mine", "version": "1.0.0", "fileFormat": format, "splits": [split]}
    (folder / "features.json").write_text(json.dumps(names))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    examples = [example(index) for index in range(len(NOISE))]
    for shard, first in enumerate((0, SHARDS[0])):
        path = folder / f"mine-train.{format}-{shard:05d}-of-{len(SHARDS):05d}"
        WRITERS[format](str(path), examples[first : first + SHARDS[shard]])
    return str(root)


def example(index: int) -> bytes:
    image = tf.io.encode_png(NOISE[index]).numpy()
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[index % 2])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_tfrecord(path: str, examples: list[bytes]) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for content in examples:
            writer.write(content)


def write_array_record(path: str, examples: list[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(path, "group_size:1")
    for content in examples:
        writer.write(content)
    writer.close()


def write_parquet(path: str, examples: list[bytes]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"data": pyarrow.array(examples, pyarrow.binary())}), path)


WRITERS = {"tfrecord": write_tfrecord, "array_record": write_array_record, "parquet": write_parquet}


@pytest.mark.parametrize("format", WRITERS)
def test_a_prepared_data_set_is_read_in_its_order(tmp_path, format):
    train = open_dataset(DataConfig("mine", data_dir=prepared(tmp_path, format)), download=False).split("train")
    assert np.array_equal(pixels(train), NOISE)
    assert train.labels.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("format", ["array_record", "parquet"])
def test_a_damaged_shard_is_a_sentence(tmp_path, format):
    data_dir = prepared(tmp_path, format)
    shard = next(Path(data_dir).rglob("*-00001-of-00002"))
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(exits.BadData, match="the split train of mine .* cannot be read"):
        open_dataset(DataConfig("mine", data_dir=data_dir), download=False).split("train")


def test_images_of_16_bits_are_refused(tmp_path):
    with pytest.raises(exits.CannotRun, match="uint16"):
        open_dataset(DataConfig("mine", data_dir=prepared(tmp_path, "tfrecord", "uint16")), download=False)
