"""`convoy data pack`: the same examples in the same order and splits, whatever happens while they are packed."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.records import format
from convoy.data.records.manifest import shard_name
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.splits import train_and_eval
from convoy.data.verbs.pack import PackConfig
from support import QUICK, assert_same_bits


def pixels(examples) -> np.ndarray:
    fetch = tf.function(examples.fetcher(), autograph=False)
    images, counts, _ = fetch(tf.range(len(examples), dtype=tf.int64), None)
    assert counts.numpy().all()
    return images.numpy()


def assert_equal(source, packed) -> None:
    """Every split has the same images, labels and hashes in the same order."""
    assert packed.split_names == source.split_names
    assert packed.class_names == source.class_names
    assert packed.image_shape == source.image_shape
    for split in source.split_names:
        one, other = source.split(split), packed.split(split)
        assert np.array_equal(pixels(one), pixels(other))
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.content_hashes(), other.content_hashes())


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("image_size", [0, 12])
def test_digits_come_back_as_they_were(tmp_path, image_size, cache_bytes):
    source = DataConfig(image_size=image_size)
    pack(source, tmp_path / "packed", 30_000)
    assert len(list((tmp_path / "packed").glob("train-*"))) > 2
    packed = DataConfig(f"records:{tmp_path / 'packed'}", cache_bytes=cache_bytes, eval_split="hash:0.1")
    assert_equal(open_dataset(source), open_dataset(packed))
    for one, other in zip(
        train_and_eval(packed, open_dataset(source)), train_and_eval(packed, open_dataset(packed)), strict=True
    ):
        assert np.array_equal(pixels(one), pixels(other)), "the same examples are held out"


def test_packed_pixels_are_resized_as_those_of_the_source(tmp_path):
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    for cache_bytes in (0, 1 << 30):
        packed = DataConfig(f"records:{tmp_path / 'packed'}", image_size=12, cache_bytes=cache_bytes)
        assert_equal(open_dataset(DataConfig(image_size=12)), open_dataset(packed))


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
    for one, other in zip(*streams, strict=True):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))
    shown = np.concatenate([batch[0] for batch in streams[1]])[:90]
    assert len({image.tobytes() for image in shown}) == 90


def write_kinds(root) -> None:
    """Image files of every kind and of many sizes."""
    from PIL import Image

    generator = np.random.default_rng(1)

    def image(side: int) -> Image.Image:
        pixels = Image.fromarray(generator.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        return pixels.resize((side, side + 30), Image.Resampling.BICUBIC)

    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    image(90).save(root / "a" / "0.jpg", quality=95)
    image(91).convert("L").save(root / "a" / "1.jpg")
    image(70).convert("CMYK").save(root / "a" / "2.jpg", quality=95)
    image(80).save(root / "a" / "3.jpg", exif=turned)
    image(81).save(root / "a" / "4.webp", quality=90)
    image(70).save(root / "b" / "0.png")
    image(71).save(root / "b" / "1.bmp")
    image(72).quantize(64).save(root / "b" / "2.gif", save_all=True, append_images=[image(72).quantize(64)])
    Image.fromarray(np.asarray(image(75).convert("L")).astype(np.uint16) * 256 + 77).save(root / "b" / "3.png")
    image(64).quantize(16).save(root / "b" / "4.png")
    image(65).convert("RGBA").save(root / "b" / "5.png")
    image(66).save(root / "b" / "6.png", exif=turned)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """(a folder with image files of every kind, the same packed)."""
    root = tmp_path_factory.mktemp("kinds")
    write_kinds(root / "folder")
    pack(DataConfig(f"folder:{root / 'folder'}"), root / "packed", 20_000)
    return root / "folder", root / "packed"


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


def test_images_of_many_sizes_need_one(kinds):
    with pytest.raises(exits.CannotRun, match="has images of many sizes; give --image_size=PIXELS"):
        open_dataset(DataConfig(f"records:{kinds[1]}"))


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
        root, row, most = shutil.copytree(kinds[1], tmp_path / "packed"), 3, 0.2
    else:
        root, row, most = tmp_path / "packed", 30, 0.02
        pack(DataConfig("synthetic:40x40x3:2:90"), root, 1 << 14)
    before = open_dataset(DataConfig(f"records:{root}", image_size=40)).split("train")
    shard = root / shard_name("train", before._shards.index["shard"][row], len(before._shards.paths))
    content = bytearray(shard.read_bytes())
    content[before._shards.index["offset"][row] + 200] ^= 4
    whole = pixels(before)
    shard.write_bytes(content)
    indices = np.arange(len(before))
    for policy in ("skip", "substitute"):
        flags = {"image_size": 40, "cache_bytes": cache_bytes, "bad_images": policy, "max_bad_fraction": most}
        dataset = open_dataset(DataConfig(f"records:{root}", **flags))
        examples = dataset.split("train")
        assert examples.unreadable().tolist() == [row]
        stretches = PositionRanges([(tf.constant(0, tf.int64), len(indices))], 0)
        images, valid, shown = examples.fetcher()(tf.constant(indices), stretches)
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


MANY = "synthetic:16x16x3:4:3000"


def packing(out, *argv) -> list[str]:
    return [
        sys.executable,
        "-P",
        "-m",
        "convoy.data.verbs.pack",
        f"--dataset={MANY}",
        "--shard_bytes=20000",
        f"--out={out}",
        *argv,
    ]


def test_killed_and_packed_on_it_has_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    pack(DataConfig(MANY), whole, 20_000)
    child = subprocess.Popen(packing(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (killed / "train-00020-of-00116.npy").exists():
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (killed / "MANIFEST.json").exists()
    (killed / "train-00003-of-00116.tfrecord").write_bytes(b"")  # a shard that did not survive
    stamps = {path.name: path.stat().st_mtime_ns for path in killed.glob("train-0000*.tfrecord")}
    pack(DataConfig(MANY), killed, 20_000)
    kept = [name for name, stamp in stamps.items() if (killed / name).stat().st_mtime_ns == stamp]
    assert sorted(set(stamps) - set(kept)) == ["train-00003-of-00116.tfrecord"]
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    for path in whole.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_is_packed_is_left_alone(tmp_path, capsys):
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()}
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    assert "holds all of digits already" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir() if path.name != ".lock"} == {
        name: stamp for name, stamp in before.items() if name != ".lock"
    }


@pytest.mark.parametrize(
    ("source", "shard_bytes", "words"),
    [
        (DataConfig("synthetic:8x8x1:10:50"), 1 << 20, "dataset was digits and is synthetic:8x8x1:10:50"),
        (DataConfig(image_size=9), 1 << 20, "image_size was 0 and is 9"),
        (DataConfig(), 1 << 10, "shard_bytes was 1048576 and is 1024"),
    ],
)
def test_another_packing_is_refused(tmp_path_factory, tmp_path, source, shard_bytes, words):
    pack(DataConfig(), tmp_path, 1 << 20)
    with pytest.raises(exits.CannotRun, match=f"--out={tmp_path} holds another packing: {words}"):
        pack(source, tmp_path, shard_bytes)


def test_changed_images_are_another_source(photographs, tmp_path):
    pack(DataConfig(f"folder:{photographs}"), tmp_path / "packed", 1 << 20)
    (photographs / "cat" / "001.png").write_bytes((photographs / "cat" / "003.png").read_bytes())
    with pytest.raises(exits.CannotRun, match="holds another packing: splits was"):
        pack(DataConfig(f"folder:{photographs}"), tmp_path / "packed", 1 << 20)


def test_a_place_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(exits.CannotRun, match="holds thesis.tex and no packed records"):
        pack(DataConfig(), tmp_path, 1 << 20)
    with pytest.raises(exits.CannotRun, match="cannot write .*thesis.tex/packed/.lock: not a directory"):
        pack(DataConfig(), tmp_path / "thesis.tex" / "packed", 1 << 20)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["MANIFEST.json", "PACKING.json"])
@pytest.mark.parametrize("odd", ["a link to itself", "a folder", "no plan", "a long plan"])
def test_a_manifest_that_none_can_read_is_a_sentence(tmp_path, name, odd):
    place = tmp_path / name
    if odd == "a link to itself":
        place.symlink_to(name)
    elif odd == "a folder":
        place.mkdir()
    else:
        format.write_json(place, {"plan": [1] if odd == "no plan" else {"schema": 1, "dataset": "x" * 1_000_000}})
    with pytest.raises((exits.CannotRun, exits.BadData)) as caught:
        pack(DataConfig(), tmp_path, 1 << 20)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 500
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", name}


def test_what_packing_did_not_make_stays_when_it_tidies_up(tmp_path):
    others = ("mine.partial", "holiday-1-of-9.npy", "folder.partial/file")
    pack(DataConfig(), tmp_path, 1 << 20)
    (tmp_path / "folder.partial").mkdir()
    for other in others:
        (tmp_path / other).touch()
    for left in ("train-00000-of-00001.tfrecord.partial", "test-00000-of-00001.npy"):
        (tmp_path / left).touch()
    pack(DataConfig(), tmp_path, 1 << 20)
    assert all((tmp_path / other).exists() for other in others)
    assert not list(tmp_path.glob("train*.partial"))
    assert not (tmp_path / "test-00000-of-00001.npy").exists()


def test_what_cannot_be_tidied_up_is_named(tmp_path):
    (tmp_path / "packed").mkdir()
    pack(DataConfig(), tmp_path / "packed", 1 << 20)
    odd = tmp_path / "packed" / "train-00000-of-00001.tfrecord.partial"
    odd.mkdir()
    with pytest.raises(exits.CannotRun, match=f"cannot remove {odd}: is a directory"):
        pack(DataConfig(), tmp_path / "packed", 1 << 20)


def test_two_packings_in_one_place_are_refused(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(exits.CannotRun, match="another process packs there now"):
            pack(DataConfig(), tmp_path, 1 << 20)


def test_a_full_disk_is_said_and_goes_on_later(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(
            exits.CannotRun, match="cannot write .*train-00000-of-00001.tfrecord: file too large; make room"
        ):
            pack(DataConfig(), tmp_path, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    pack(DataConfig(), tmp_path, 1 << 20)
    assert_equal(open_dataset(DataConfig()), open_dataset(DataConfig(f"records:{tmp_path}")))


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


@pytest.mark.parametrize("damage", ["flipped", "missing", "index"])
def test_the_same_command_mends_what_is_damaged(tmp_path, capsys, damage):
    """As the sentence about a record that cannot be read says."""
    name = "synthetic:5x4x3:3:90"
    pack(DataConfig(name), tmp_path, 1000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shard = tmp_path / "train-00002-of-00006.tfrecord"
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tfrecord")}
    if damage == "flipped":
        shard.write_bytes(shard.read_bytes()[:-9] + b"something")
    else:
        (shard if damage == "missing" else tmp_path / "train.index.npy").unlink()
    pack(DataConfig(name), tmp_path, 1000)
    assert "is not whole (" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    if damage != "index":
        assert [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp] == [shard]


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


def test_a_home_that_is_nobodys_is_a_place_like_any_other():
    assert PackConfig(dataset="folder:~nobody-is-called-so/x", out="~nobody-is-called-so/y").root.parts[-1] == "y"
    with pytest.raises(exits.CannotRun, match="is no folder"):
        open_dataset(DataConfig("records:~nobody-is-called-so/x"))
    with pytest.raises(exits.CannotRun, match="does not exist"):
        open_dataset(DataConfig("folder:~nobody-is-called-so/x"))
