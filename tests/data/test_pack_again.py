"""Packing where something stands already: it goes on, mends, or refuses, and harms nothing."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time

import pytest
from packed_sets import assert_equal

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.records import format
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset

pytestmark = pytest.mark.slow

SMALL = "synthetic:8x8x1:3:60"
MANY = "synthetic:16x16x3:4:1000"


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
    while not (killed / "train-00012-of-00039.npy").exists():
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (killed / "MANIFEST.json").exists()
    (killed / "train-00003-of-00039.tfrecord").write_bytes(b"")  # a shard that did not survive
    stamps = {path.name: path.stat().st_mtime_ns for path in killed.glob("train-0000*.tfrecord")}
    pack(DataConfig(MANY), killed, 20_000)
    kept = [name for name, stamp in stamps.items() if (killed / name).stat().st_mtime_ns == stamp]
    assert sorted(set(stamps) - set(kept)) == ["train-00003-of-00039.tfrecord"]
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    for path in whole.iterdir():
        assert (killed / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_complete_packing_is_not_written_again(tmp_path, capsys):
    pack(DataConfig(SMALL), tmp_path / "packed", 1 << 20)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()}
    pack(DataConfig(SMALL), tmp_path / "packed", 1 << 20)
    assert f"holds all of {SMALL} already" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir() if path.name != ".lock"} == {
        name: stamp for name, stamp in before.items() if name != ".lock"
    }


@pytest.mark.parametrize(
    ("source", "shard_bytes", "words"),
    [
        (DataConfig(SMALL), 1 << 20, f"dataset was digits and is {SMALL}"),
        (DataConfig(image_size=9), 1 << 20, "image_size was 0 and is 9"),
        (DataConfig(), 1 << 10, "shard_bytes was 1048576 and is 1024"),
    ],
)
def test_another_packing_is_refused(tmp_path, source, shard_bytes, words):
    pack(DataConfig(), tmp_path, 1 << 20)
    with pytest.raises(exits.CannotRun, match=f"--out={tmp_path} holds another packing: {words}"):
        pack(source, tmp_path, shard_bytes)


def test_changed_images_are_another_source(photographs, tmp_path):
    pack(DataConfig(f"folder:{photographs}"), tmp_path / "packed", 1 << 20)
    (photographs / "cat" / "001.png").write_bytes((photographs / "cat" / "003.png").read_bytes())
    with pytest.raises(exits.CannotRun, match="holds another packing: splits was"):
        pack(DataConfig(f"folder:{photographs}"), tmp_path / "packed", 1 << 20)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(exits.CannotRun, match="holds thesis.tex and no packed records"):
        pack(DataConfig(SMALL), tmp_path, 1 << 20)
    with pytest.raises(exits.CannotRun, match="cannot write .*thesis.tex/packed/.lock: not a directory"):
        pack(DataConfig(SMALL), tmp_path / "thesis.tex" / "packed", 1 << 20)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["MANIFEST.json", "PACKING.json"])
@pytest.mark.parametrize("odd", ["a link to itself", "a folder", "no plan", "a long plan"])
def test_an_unreadable_manifest_is_a_sentence(tmp_path, name, odd):
    place = tmp_path / name
    if odd == "a link to itself":
        place.symlink_to(name)
    elif odd == "a folder":
        place.mkdir()
    else:
        format.write_json(place, {"plan": [1] if odd == "no plan" else {"schema": 1, "dataset": "x" * 1_000_000}})
    with pytest.raises((exits.CannotRun, exits.BadData)) as caught:
        pack(DataConfig(SMALL), tmp_path, 1 << 20)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 500
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", name}


def test_only_leftovers_of_packing_are_removed(tmp_path):
    others = ("mine.partial", "holiday-1-of-9.npy", "folder.partial/file")
    pack(DataConfig(SMALL), tmp_path, 1 << 20)
    (tmp_path / "folder.partial").mkdir()
    for other in others:
        (tmp_path / other).touch()
    for left in ("train-00000-of-00001.tfrecord.partial", "test-00000-of-00001.npy"):
        (tmp_path / left).touch()
    pack(DataConfig(SMALL), tmp_path, 1 << 20)
    assert all((tmp_path / other).exists() for other in others)
    assert not list(tmp_path.glob("train*.partial"))
    assert not (tmp_path / "test-00000-of-00001.npy").exists()


def test_a_leftover_that_cannot_be_removed_is_named(tmp_path):
    (tmp_path / "packed").mkdir()
    pack(DataConfig(SMALL), tmp_path / "packed", 1 << 20)
    odd = tmp_path / "packed" / "train-00000-of-00001.tfrecord.partial"
    odd.mkdir()
    with pytest.raises(exits.CannotRun, match=f"cannot remove {odd}: is a directory"):
        pack(DataConfig(SMALL), tmp_path / "packed", 1 << 20)


def test_two_packings_in_one_place_are_refused(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(exits.CannotRun, match="another process packs there now"):
            pack(DataConfig(SMALL), tmp_path, 1 << 20)


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


@pytest.mark.parametrize("damage", ["flipped", "missing", "index"])
def test_the_same_command_mends_damaged_files(tmp_path, capsys, damage):
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
