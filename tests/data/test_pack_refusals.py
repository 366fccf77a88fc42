"""What cannot be packed, and what of packed records cannot be read: each is a sentence."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels, write_kinds

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.records.manifest import shard_name
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.verbs.pack import PackConfig
from support import QUICK

pytestmark = pytest.mark.slow


# Pillow would forgive the last one, which ends a run that meets it.
@pytest.mark.parametrize(("name", "cut"), [("0.jpg", 400), ("0.png", 400), ("0.png", 14)])
def test_an_image_that_cannot_be_read_is_not_packed(tmp_path, name, cut):
    write_kinds(tmp_path / "folder")
    path = next((tmp_path / "folder").glob(f"*/{name}"))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(exits.BadData, match=f"cannot read the image {path}: .+; replace or remove it"):
        pack(DataConfig(f"folder:{tmp_path / 'folder'}"), tmp_path / "packed", 1 << 20)
    assert not (tmp_path / "packed" / "MANIFEST.json").exists()


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("source", ["pixels", "files"])
def test_a_bad_record_is_skipped_or_substituted(kinds, tmp_path, source, cache_bytes):
    if source == "files":
        root, row, fraction = shutil.copytree(kinds[1], tmp_path / "packed"), 3, 0.2
    else:
        root, row, fraction = tmp_path / "packed", 30, 0.02
        pack(DataConfig("synthetic:40x40x3:2:90"), root, 1 << 14)
    before = open_dataset(DataConfig(f"records:{root}", image_size=40)).split("train")
    shard = root / shard_name("train", before._shards.index["shard"][row], len(before._shards.paths))
    content = bytearray(shard.read_bytes())
    content[before._shards.index["offset"][row] + 200] ^= 4
    whole = pixels(before)
    shard.write_bytes(content)
    indices = np.arange(len(before))
    for policy in ("skip", "substitute"):
        flags = {"image_size": 40, "cache_bytes": cache_bytes, "bad_images": policy, "max_bad_fraction": fraction}
        dataset = open_dataset(DataConfig(f"records:{root}", **flags))
        examples = dataset.split("train")
        assert examples.unreadable().tolist() == [row]
        positions = PositionRanges([(tf.constant(0, tf.int64), len(indices))], 0)
        images, valid, shown = examples.fetcher()(tf.constant(indices), positions)
        expected = whole.copy()
        if policy == "substitute":
            expected[row] = whole[row + 1]
            assert np.array_equal(shown, np.where(indices == row, row + 1, indices))
            assert valid.numpy().all()
            assert np.array_equal(images, expected)
        else:
            assert np.array_equal(valid, indices != row)
            assert np.array_equal(np.delete(images, row, axis=0), np.delete(whole, row, axis=0))
        assert len(examples.bad) == 1
    strict = open_dataset(DataConfig(f"records:{root}", **{**flags, "max_bad_fraction": 0})).split("train")
    with pytest.raises(exits.BadData, match=f"record .* of {shard} cannot be read: its checksum is wrong"):
        strict.unreadable()


def test_a_bad_record_of_a_file_says_what_mends_it(kinds, tmp_path):
    root = shutil.copytree(kinds[1], tmp_path / "packed")
    shard = root / "train-00000-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        exits.BadData, match=f"^record 0 of {shard} cannot be read: .* give the same `convoy data pack` again"
    ):
        open_dataset(DataConfig(f"records:{root}", image_size=32)).split("train").fetcher()


@pytest.mark.thorough
def test_a_flipped_record_ends_a_run_by_its_name(convoy, tmp_path):
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    shard = tmp_path / "packed" / "train-00000-of-00001.tfrecord"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    outcome = convoy("train", *QUICK, f"--dataset=records:{tmp_path / 'packed'}", f"--run_dir={tmp_path / 'run'}")
    assert outcome.code == 65, outcome
    assert f"record 4 of {shard} cannot be read" in outcome.err
    outcome = convoy("data", "pack", "--dataset=digits", f"--out={tmp_path / 'packed'}", "--image_size=4")
    assert outcome.code == 78, outcome


@pytest.mark.thorough
def test_bad_images_are_no_choice_of_packing(convoy, photographs, tmp_path):
    """Records are what was there; a run may skip what a folder has."""
    assert convoy("data", "pack", f"--dataset=folder:{photographs}", "--out=packed", "--bad_images=skip").code == 2
    (photographs / "cat" / "003.png").write_text("this is no image")
    outcome = convoy("data", "pack", f"--dataset=folder:{photographs}", "--out=packed")
    assert outcome.code == 65, outcome
    assert "cat/003.png cannot be decoded" in outcome.err
    assert "replace or remove such files, or train with --bad_images=skip" in outcome.err
    assert not (tmp_path / "packed").exists()


def test_images_of_many_sizes_need_one(kinds):
    with pytest.raises(exits.CannotRun, match="has images of many sizes; give --image_size=PIXELS"):
        open_dataset(DataConfig(f"records:{kinds[1]}"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "--out is missing"),
        ({"out": "x", "shard_bytes": 0}, "--shard_bytes=0 is not possible"),
        ({"out": "x", "dataset": "records:y"}, "records:y is packed already"),
        ({"out": "x/y/z", "dataset": "folder:x"}, "--out=x/y/z lies within"),
    ],
)
def test_an_impossible_packing_names_its_flag(flags, words):
    with pytest.raises(exits.CannotRun, match=words):
        PackConfig(**flags)


def test_an_unknown_home_is_a_folder_like_any_other():
    assert PackConfig(dataset="folder:~nobody-is-called-so/x", out="~nobody-is-called-so/y").root.parts[-1] == "y"
    with pytest.raises(exits.CannotRun, match="is no folder"):
        open_dataset(DataConfig("records:~nobody-is-called-so/x"))
    with pytest.raises(exits.CannotRun, match="does not exist"):
        open_dataset(DataConfig("folder:~nobody-is-called-so/x"))
