"""A run continues, or is evaluated, on the data that it began on, wherever these lie now; other data are refused."""

from __future__ import annotations

import json
import os
import shutil
import time

import google_crc32c
import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.identity import Identity, Origin, Split, split_of_files
from convoy.data.records import format
from convoy.data.records.manifest import MANIFEST
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.store import open_store
from convoy.trainer import run
from convoy.trainer.config import RunConfig
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.trainer.run_dir.data_identity import known
from convoy.trainer.verbs.evaluate import EvaluateConfig, evaluate
from support import assert_same_bits, result_of, write_images

ODD = os.fsdecode(b"cat/\xff.png")  # no UTF-8


def train(run_dir, dataset, duration="2st"):
    data = DataConfig(dataset, eval_split="hash:0.3")
    values = {"batch_size": 8, "devices": "cpu:1", "checkpoint_every": "1st"}
    return run.run(RunConfig(str(run_dir), data, duration=duration, report=False, **values))


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Drawing them would take as long as training."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a finished run of two steps, begun in that folder on `folder:photos`."""
    home = tmp_path_factory.mktemp("begun")
    write_images(home / "photos" / "train", ("cat", "dog"), each=12)
    write_images(home / "photos" / "test", ("cat", "dog"), each=2, first=1)
    shutil.copy(home / "photos" / "train" / "cat" / "000.jpg", home / "photos" / "train" / ODD)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(home)
        train("run", "folder:photos")
    return home


@pytest.fixture
def place(begun, tmp_path, monkeypatch):
    """A copy of that folder as the current directory."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def another_name(photos, place):
    place.joinpath("elsewhere").mkdir()
    os.chdir(place / "elsewhere")
    return "../photos"


def a_mount(photos, place):
    place.joinpath("mount").symlink_to(place)
    return f"{place}/mount/photos"


def a_slash(photos, place):
    return "photos/"


def the_home_folder(photos, place):
    os.environ["HOME"] = str(place)
    return "~/photos"


def a_copy(photos, place):
    shutil.copytree(photos, place / "copied", copy_function=shutil.copyfile)  # with other times
    shutil.rmtree(photos)
    return f"{place}/copied"


PLACES = [another_name, a_mount, a_slash, the_home_folder, a_copy]


@pytest.mark.parametrize("to", PLACES, ids=lambda to: to.__name__)
def test_a_folder_in_another_place_is_the_same_data(to, place, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    dataset = to(place / "photos", place)
    assert train(place / "run", f"folder:{dataset}")["step"] == 2  # finished, and not refused


@pytest.mark.thorough
@pytest.mark.parametrize("to", [a_copy, *PLACES[:-1]])
def test_a_run_whose_data_has_moved_ends_with_the_same_bits(to, place, monkeypatch):
    shutil.copytree("run", "alone")
    train("alone", "folder:photos", "4st")
    monkeypatch.setenv("HOME", "/")
    dataset = to(place / "photos", place)
    assert train(place / "run", f"folder:{dataset}", "4st")["step"] == 4
    assert_same_bits(place / "run", place / "alone")
    flags = (place / "run" / "config.flags").read_text()
    assert f"--dataset=folder:{dataset}\n" in flags  # so that the file starts the run where its data lie now


def added(photos):
    shutil.copy(photos / "train" / "cat" / "000.jpg", photos / "train" / "cat" / "more.jpg")
    return "the split train had 25 examples and has 26"


def removed(photos):
    (photos / "test" / "dog" / "000.jpg").unlink()
    return "the split test had 4 examples and has 3"


def renamed(photos):
    (photos / "train" / "cat" / "000.jpg").rename(photos / "train" / "cat" / "020.jpg")
    return "some of the 25 files of the split train have other names or sizes"


def replaced(photos):
    with (photos / "train" / "cat" / "000.jpg").open("ab") as file:
        file.write(b"\0")
    return "some of the 25 files of the split train have other names or sizes"


def replaced_in_the_test(photos):
    with (photos / "test" / "cat" / "000.jpg").open("ab") as file:
        file.write(b"\0")
    return "some of the 4 files of the split test have other names or sizes"


def moved_to_another_class(photos):
    (photos / "train" / "cat" / "000.jpg").rename(photos / "train" / "dog" / "020.jpg")
    return "some of the 25 files of the split train have other names or sizes"


def a_class_renamed(photos):
    for split in ("train", "test"):
        (photos / split / "dog").rename(photos / split / "fox")
    return "it has no class dog any more; it had no class fox before"


def a_split_removed(photos):
    shutil.rmtree(photos / "test")
    return "the split test is no longer there"


CHANGES = [
    added,
    removed,
    renamed,
    replaced,
    replaced_in_the_test,
    moved_to_another_class,
    a_class_renamed,
    a_split_removed,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changed_data_is_refused_with_the_difference(change, place):
    said = change(place / "photos")
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    with pytest.raises(exits.CannotRun, match=said) as refused:
        train("run", "folder:photos", "3st")
    assert "--dataset=folder:photos is not what the run in run was begun on" in str(refused.value)
    assert before == {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}


def test_data_is_recorded_before_the_first_checkpoint(place):
    shutil.rmtree(place / "run" / "checkpoints")
    for name in ("metrics.jsonl", "result.json"):
        (place / "run" / name).unlink()
    copied = a_copy(place / "photos", place)
    said = renamed(place / "copied")
    with pytest.raises(exits.CannotRun, match=said):
        train("run", f"folder:{copied}")
    (place / "copied" / "train" / "cat" / "020.jpg").rename(place / "copied" / "train" / "cat" / "000.jpg")
    assert train("run", f"folder:{copied}")["step"] == 2


def make_old(run_dir):
    """Makes a run directory one of 3ff22d4, where only checkpoints recorded the data, and not all of it."""
    (run_dir / "identity.json").unlink()
    for checkpoint in (run_dir / "checkpoints").iterdir():
        state, manifest = (json.loads((checkpoint / name).read_text()) for name in ("state.json", "MANIFEST.json"))
        text = json.dumps({name: state[name] for name in ("progress", "examples", "classes")}, indent=1).encode()
        (checkpoint / "state.json").write_bytes(text)
        entry = {"bytes": len(text), "crc32c": f"{google_crc32c.value(text):08x}"}
        manifest["objects"]["state.json"] |= entry
        (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))


def test_a_run_of_3ff22d4_is_checked_by_counts_and_names(place):
    make_old(place / "run")
    copied = a_copy(place / "photos", place)
    shutil.copytree("run", "untouched")
    (place / "copied" / "test" / "cat" / "000.jpg").unlink()  # it has no record of the test split
    assert train("run", f"folder:{copied}", "3st")["step"] == 3
    renamed(place / "copied")
    with pytest.raises(exits.CannotRun, match="have other names or sizes"):  # from now on it has one
        train("run", f"folder:{copied}", "4st")
    removed = sorted((place / "copied" / "train" / "cat").iterdir())[:8]  # enough that some were not held out
    for path in removed:
        path.unlink()
    with pytest.raises(exits.CannotRun, match="it had [0-9]+ examples to train on and has"):
        train("untouched", f"folder:{copied}", "3st")


def test_a_run_of_3ff22d4_without_a_checkpoint_does_not_move(place):
    make_old(place / "run")
    shutil.rmtree(place / "run" / "checkpoints")
    copied = a_copy(place / "photos", place)
    with pytest.raises(exits.CannotRun, match="--dataset=folder:.* but the run was begun with --dataset=folder:photos"):
        train("run", f"folder:{copied}")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"examples": "5", "classes": []}', '{"examples": 1, "classes": ["a"], "data": []}',
     '{"examples": 1, "classes": ["a"], "data": {"source": "folder", "splits": {"train": {"examples": -1, "digest": ""}}}}'],
)  # fmt: skip
def test_an_unreadable_identity_is_bad_data(text, tmp_path):
    (tmp_path / "identity.json").write_text(text)
    with pytest.raises(exits.BadData, match=f"{tmp_path}/identity.json"):
        known(open_store(str(tmp_path)))


def test_evaluate_takes_the_new_place_of_the_data(place):
    def measured(**values):
        return evaluate(EvaluateConfig(run_dir="run", **values), Signals())[0]

    here = result_of(place / "run")["eval"]
    copied = a_copy(place / "photos", place)
    with pytest.raises(exits.CannotRun, match="photos does not exist"):
        measured()
    now = measured(dataset=f"folder:{copied}", split="test")
    assert (now["loss"], now["per_class"]) == (pytest.approx(here["loss"], rel=1e-6), here["per_class"])
    with pytest.raises(exits.CannotRun, match="did you mean folder:"):
        measured(dataset=copied)
    for other in ("digits", f"records:{copied}"):
        with pytest.raises(exits.CannotRun, match=f"--dataset={other}, but the run in run was begun on folder:photos"):
            measured(dataset=other)
    said = renamed(place / "copied")
    with pytest.raises(exits.CannotRun, match=said):
        measured(dataset=f"folder:{copied}")


def test_records_are_identified_by_the_files_of_each_split(place):
    pack(DataConfig("folder:photos"), place / "packed", 1 << 20)
    with pytest.raises(exits.CannotRun, match="--dataset=records:packed, but the run was begun with"):
        train("run", "records:packed")  # the same images, but another decoder may give other bits

    here = open_dataset(DataConfig("records:packed"))
    then = Identity(17, here.class_names, here.origin)
    shutil.move("packed", "moved")
    assert not differences(*(RunConfig(data=DataConfig(f"records:{at}")) for at in ("packed", "./moved/")))
    assert open_dataset(DataConfig("records:./moved/")).origin == then.origin

    path = place / "moved" / MANIFEST
    manifest = format.read_json(path)
    manifest["files"]["train-00000-of-00001.tfrecord"]["crc32c"] = "00000000"  # as if other images had been packed
    format.write_json(path, manifest)
    now = Identity(17, here.class_names, open_dataset(DataConfig("records:moved")).origin)
    assert now.differences(then) == ["the split train was packed from other images, or in another way"]


def test_a_bucket_and_a_folder_hold_the_same_records(place, bucket, monkeypatch):
    from packed_sets import send

    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "caches"))
    pack(DataConfig("digits"), place / "packed", 100_000)
    send(place / "packed", bucket)
    origins = [open_dataset(DataConfig(f"records:{at}")).origin for at in ("packed", bucket)]
    assert origins[0] == origins[1]
    assert {name: split.examples for name, split in origins[0].splits.items()} == {"train": 1421, "test": 376}


def test_a_tfds_data_set_is_identified_by_name_and_version(cifar10):
    origin = open_dataset(DataConfig("cifar10", str(cifar10))).origin
    assert origin == Origin("cifar10/3.0.2", {"train": Split(50_000), "test": Split(10_000)})
    now = Identity(50_000, ("a", "b"), Origin("cifar10/3.0.3", origin.splits))
    then = Identity(50_000, ("a", "b"), origin)
    assert now.differences(then) == ["it was cifar10/3.0.2 and is cifar10/3.0.3"]


def test_the_content_of_an_image_does_not_count(place):
    dataset = DataConfig("folder:photos")
    origin = open_dataset(dataset).origin
    for path in (place / "photos").rglob("*.*"):
        content = path.read_bytes()
        path.write_bytes(content[:-4] + bytes(4))  # only headers are read
    assert open_dataset(dataset).origin == origin


def test_fifty_thousand_names_take_a_fraction_of_a_second(place):
    names = [f"{place}/train/class{index % 100}/photograph-{index:06d}.jpeg" for index in range(50_000)]
    sizes, seconds = np.arange(50_000), []
    for _ in range(3):
        begin = time.perf_counter()
        split_of_files(place, names, sizes)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.2
