"""Checkpoints: complete or absent, checked when read, pruned without losing the best."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import Checkpoint, CheckpointManager, format, select
from convoy.trainer.checkpoints.documents import CorruptCheckpoint
from convoy.trainer.checkpoints.snapshot import Snapshot
from convoy.trainer.loop.progress import Progress

TENSORS = {
    "model/conv/kernel": np.arange(6.0).reshape(2, 3),
    "model/file": np.zeros(0),
    "model/allow_pickle": np.ones(()),
    "optimizer/step": np.array(7),
    "ema/conv/kernel": np.ones(2),
}
STATE = {"examples": 9, "classes": ["a", "b"]}


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "run"))


def save(manager, step, best=None, value=1.0):
    tensors = {"model/value": np.array(value), **TENSORS}
    found = {"step": best, "loss": 1.0, "accuracy": 0.5} if best else None
    state = {**STATE, "progress": Progress(step, position=8 * step, best=found).to_dict(), "step": step}
    written = Snapshot({name: (value.shape, value.dtype) for name, value in tensors.items()})
    manager.save(Checkpoint(step, manager.attempt), written.write(tensors.items()), written.tensors, state, best)


def write(store, checkpoint, tensors, state=None, passing=lambda phase: None):
    state = {**STATE, "progress": Progress(checkpoint.step, position=8 * checkpoint.step).to_dict(), **(state or {})}
    written = Snapshot({name: (value.shape, value.dtype) for name, value in tensors.items()})
    format.write(store, checkpoint, written.write(tensors.items()), written.tensors, state, passing)


def steps(store):
    return [(one.step, one.attempt) for one in format.complete(store)]


def test_what_is_written_is_read_again_and_by_numpy_alone(store, tmp_path):
    write(store, Checkpoint(40, 2), TENSORS, {"a": [1]})
    tensors, state = format.read(store, Checkpoint(40, 2))
    assert state == {**STATE, "progress": Progress(40, position=320).to_dict(), "a": [1]}
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], value)
        assert tensors[name].dtype == value.dtype
    with np.load(tmp_path / "run" / "checkpoints" / "00000040.2" / "model.npz") as members:
        np.testing.assert_array_equal(members["conv/kernel"], TENSORS["model/conv/kernel"])


@pytest.mark.parametrize("name", ["model.npz", "optimizer.npz", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(store, tmp_path, capsys, name, damage):
    manager = CheckpointManager(store, 1, keep=5)
    save(manager, 20, value=20.0)
    save(manager, 40, value=40.0)
    path = tmp_path / "run" / "checkpoints" / "00000040.1" / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(bytes([*data[:30], data[30] ^ 1, *data[31:]]))
    after = CheckpointManager(store, 2, keep=5)
    tensors, state = after.load_latest()
    if name == "MANIFEST.json" and damage == "flipped":
        assert state["step"] in (20, 40)  # one bit of white space may not matter
        return
    assert state["step"] == 20
    assert tensors["model/value"] == 20.0
    refused = capsys.readouterr().err
    if not (name == "MANIFEST.json" and damage == "missing"):
        assert "00000040.1" in refused
        assert name in refused
    save(after, 40)
    assert (20, 1) in steps(store), "a refused checkpoint does not count among those that are kept"


def test_if_every_checkpoint_is_damaged_nothing_starts_over(store, tmp_path):
    save(CheckpointManager(store, 1, keep=5), 20)
    (tmp_path / "run" / "checkpoints" / "00000020.1" / "model.npz").unlink()
    with pytest.raises(exits.CannotRun, match="damaged"):
        CheckpointManager(store, 2, keep=5).load_latest()


def test_no_checkpoint_is_none(store):
    assert CheckpointManager(store, 1, keep=5).load_latest() is None


def test_the_newest_and_the_best_stay(store):
    manager = CheckpointManager(store, 1, keep=2)
    for step, best in ((10, 10), (20, 20), (30, 20), (40, 20), (50, 20)):
        save(manager, step, best)
    assert steps(store) == [(20, 1), (40, 1), (50, 1)]
    save(manager, 60, 60)
    assert steps(store) == [(50, 1), (60, 1)]


def test_another_attempt_never_writes_into_an_older_folder(store):
    save(CheckpointManager(store, 1, keep=5), 20, value=1.0)
    save(CheckpointManager(store, 2, keep=5), 20, value=2.0)
    assert steps(store) == [(20, 1), (20, 2)]
    assert CheckpointManager(store, 3, keep=5).load_latest()[0]["model/value"] == 2.0


def test_what_died_before_its_manifest_is_not_there_and_is_cleaned_up(store, tmp_path):
    save(CheckpointManager(store, 1, keep=5), 20)

    class Death(BaseException):
        pass

    def die(phase):
        if phase == "manifest":
            raise Death

    with pytest.raises(Death):
        write(store, Checkpoint(40, 1), TENSORS, passing=die)
    assert steps(store) == [(20, 1)]
    CheckpointManager(store, 2, keep=5).clean(20)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["00000020.1"]


def test_select(store):
    with pytest.raises(exits.CannotRun, match="no checkpoint yet"):
        select(store, "last")
    manager = CheckpointManager(store, 1, keep=5)
    save(manager, 20, best=20, value=20.0)
    save(manager, 40, best=20, value=40.0)
    values = {which: float(select(store, which)[1]["model/value"]) for which in ("last", "best", "20", "40")}
    assert values == {"last": 40.0, "best": 20.0, "20": 20.0, "40": 40.0}
    with pytest.raises(exits.CannotRun, match="no checkpoint of step 30; it has those of 20, 40"):
        select(store, "30")


def test_the_manifest_names_sizes_and_checksums(store, tmp_path):
    write(store, Checkpoint(1, 1), TENSORS)
    folder = tmp_path / "run" / "checkpoints" / "00000001.1"
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert set(manifest["objects"]) == {"model.npz", "optimizer.npz", "ema.npz", "state.json"}
    for name, entry in manifest["objects"].items():
        assert entry["bytes"] == (folder / name).stat().st_size
    with pytest.raises(CorruptCheckpoint):
        format.read(store, Checkpoint(2, 1))
