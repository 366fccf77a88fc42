"""`convoy data pack`: the same examples in the same order and splits."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import assert_equal, pixels

from convoy.data.config import DataConfig
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.records import format
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.splits import train_and_eval
from support import QUICK, assert_same_bits

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("image_size", [0, 12])
def test_digits_come_back_as_they_were(tmp_path, image_size):
    config = DataConfig(image_size=image_size)
    pack(config, tmp_path / "packed", 30_000)
    assert len(list((tmp_path / "packed").glob("train-*"))) > 2
    source = open_dataset(config)
    for cache_bytes in (0, 1 << 30):
        flags = DataConfig(f"records:{tmp_path / 'packed'}", cache_bytes=cache_bytes, eval_split="hash:0.1")
        packed = open_dataset(flags)
        assert_equal(source, packed)
        for ours, theirs in zip(train_and_eval(flags, packed), train_and_eval(flags, source), strict=True):
            assert np.array_equal(pixels(ours), pixels(theirs)), "the same examples are held out"


def test_packed_pixels_are_resized_as_those_of_the_source(tmp_path):
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    source = open_dataset(DataConfig(image_size=12))
    for cache_bytes in (0, 1 << 30):
        packed = DataConfig(f"records:{tmp_path / 'packed'}", image_size=12, cache_bytes=cache_bytes)
        assert_equal(source, open_dataset(packed))


def test_small_images_of_a_folder_are_packed_as_pixels(photographs, tmp_path):
    source = DataConfig(f"folder:{photographs}")
    pack(source, tmp_path / "packed", 10_000)
    assert_equal(open_dataset(source), open_dataset(DataConfig(f"records:{tmp_path / 'packed'}", cache_bytes=0)))
    assert format.read_json(tmp_path / "packed" / "MANIFEST.json")["plan"]["shape"] == [24, 20, 3]


def test_a_stream_of_records_is_that_of_the_source(tmp_path):
    """Positions, images and labels of an epoch and a half, which shows each example once before any a second time."""
    name = "synthetic:5x4x3:3:90"
    pack(DataConfig(name), tmp_path / "packed", 1000)
    streams = []
    for config in (DataConfig(name), DataConfig(f"records:{tmp_path / 'packed'}", cache_bytes=0)):
        stream = training_stream(
            open_dataset(config).split("train"), BatchSharding(15), config, seed=7, first_position=0
        ).take(9)
        streams.append(list(stream.as_numpy_iterator()))
    for batches in zip(*streams, strict=True):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*batches, strict=True))
    shown = np.concatenate([batch[0] for batch in streams[1]])[:90]
    assert len({image.tobytes() for image in shown}) == 90


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_every_kind_of_file_shows_what_it_showed(kinds, cache_bytes):
    folder, packed = kinds
    source, same = (
        open_dataset(DataConfig(f"{kind}:{place}", image_size=48, cache_bytes=cache_bytes))
        for kind, place in (("folder", folder), ("records", packed))
    )
    assert np.array_equal(source.split("train").content_hashes(), same.split("train").content_hashes())
    images, others = (pixels(dataset.split("train")).astype(int) for dataset in (source, same))
    off = np.abs(images - others).max(axis=(1, 2, 3))
    # Those that EXIF turns (a/3.jpg, b/6.png) are resized before they are turned, as PNG after it, and rounded otherwise.
    assert np.flatnonzero(off).tolist() == [3, 11]
    assert off.max() == 1


def test_files_stay_as_they_are_or_become_upright_png(kinds):
    """What is in the shards, by TensorFlow and Pillow alone."""
    from PIL import Image, ImageOps

    folder, packed = kinds
    kept = {"a/0.jpg", "a/1.jpg", "b/0.png", "b/3.png", "b/4.png", "b/5.png"}
    paths = sorted(path for path in folder.glob("*/*"))
    shards = sorted(str(path) for path in packed.glob("train-*.tfrecord"))
    assert len(shards) == 2
    for path, record in zip(paths, tf.data.TFRecordDataset(shards).as_numpy_iterator(), strict=True):
        feature = tf.train.Example.FromString(record).features.feature
        content, form = (feature[f"image/{key}"].bytes_list.value[0] for key in ("encoded", "format"))
        assert feature["image/class/label"].int64_list.value[:] == [int(path.parent.name == "b")]
        if f"{path.parent.name}/{path.name}" in kept:
            assert content == path.read_bytes()
            assert form == (b"JPEG" if path.suffix == ".jpg" else b"PNG")
        else:
            assert form == b"PNG"
            shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
            assert np.array_equal(tf.io.decode_image(content, expand_animations=False), shown), path


def test_a_stream_of_packed_photographs_is_that_of_the_folder(kinds):
    """With random parts of the originals, decoded as they are drawn."""
    streams = []
    for dataset in (f"folder:{kinds[0]}", f"records:{kinds[1]}"):
        config = DataConfig(dataset, image_size=40, augment="resized:0.2", cache_bytes=0)
        stream = training_stream(
            open_dataset(config).split("train"), BatchSharding(6), config, seed=7, first_position=0
        ).take(4)
        streams.append(np.concatenate([batch.images for batch in stream.as_numpy_iterator()]).astype(int))
    off = np.abs(streams[0] - streams[1]).max(axis=(1, 2, 3))
    assert np.count_nonzero(off == 0) >= 20, "all but the two that EXIF turns, twice"
    assert off.max() <= 2
    assert len({image.tobytes() for image in streams[0]}) == 24


@pytest.mark.thorough  # streams of both are compared above
def test_a_run_on_records_ends_with_the_bits_of_one_on_the_source(convoy, tmp_path):
    outcome = convoy("data", "pack", "--dataset=digits", f"--out={tmp_path / 'packed'}")
    assert outcome.code == 0, outcome
    assert outcome.err == ""
    assert f"--dataset=records:{tmp_path / 'packed'}" in outcome.out
    for name, flags in {
        "source": [],
        "records": [f"--dataset=records:{tmp_path / 'packed'}", "--cache_bytes=0"],
    }.items():
        outcome = convoy("train", *QUICK, *flags, f"--run_dir={tmp_path / name}")
        assert outcome.code == 0, outcome
    assert "it is read as it is drawn" in outcome.out
    assert_same_bits(tmp_path / "source", tmp_path / "records")
