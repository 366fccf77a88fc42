"""Saving beside training: one copy of the state, one save at a time, and nothing that goes wrong stays unsaid."""

from __future__ import annotations

import io
import json
import threading

import numpy as np
import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.checkpoints import Checkpoint, CheckpointManager, Saver, format
from convoy.trainer.checkpoints.snapshot import NotFinite, Snapshot, check
from convoy.trainer.loop.progress import Progress
from convoy.trainer.outputs.recorder import Recorder

TENSORS = {
    "model/a": np.arange(1000.0),
    "model/nothing": np.zeros((0, 3), np.float32),
    "model/turned": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "model/b": np.arange(3000.0).reshape(3, 10, 100),
    "optimizer/step": np.array(7, np.int64),
    "optimizer/seed": np.array([1, 2], np.uint32),
}


def shapes(tensors=TENSORS):
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


class SlowStore(LocalStore):
    """Writes when it is told to, or fails."""

    def __init__(self, root):
        super().__init__(root)
        self.go, self.error = threading.Event(), None

    def put(self, name, data):
        assert self.go.wait(30)
        if self.error:
            raise self.error
        return super().put(name, data)


@pytest.fixture
def slow(tmp_path):
    return SlowStore(str(tmp_path / "run"))


@pytest.fixture
def saver(slow):
    return Saver(CheckpointManager(slow, 1, keep=5), shapes(), Recorder(slow, 1))


def save(saver, step, tensors=TENSORS):
    return saver.save(
        step,
        tensors.items(),
        {"progress": Progress(step, position=8 * step).to_dict(), "examples": 9, "classes": ["a", "b"]},
        None,
    )


@pytest.mark.parametrize("file_bytes", [1, 8_000, 30_000, 1 << 20])
def test_files_of_any_size_hold_every_tensor(file_bytes):
    snapshot = Snapshot(shapes(), file_bytes)
    for factor in (1, 2):  # the memory is used again
        tensors = {name: value * value.dtype.type(factor) for name, value in TENSORS.items()}
        found = {}
        for name, content in snapshot.write(tensors.items()).items():
            with np.load(io.BytesIO(content)) as members:
                found |= {f"{name.partition('-')[0].removesuffix('.npz')}/{path}": members[path] for path in members}
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(found[name], value)
            assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
    names = list(snapshot.tensors)
    if file_bytes == 1 << 20:
        assert names == ["model.npz", "optimizer.npz"]
    if file_bytes == 8_000:
        assert names == [
            "model-00001-of-00003.npz",
            "model-00002-of-00003.npz",
            "model-00003-of-00003.npz",
            "optimizer.npz",
        ]


def test_equal_states_are_equal_files():
    first, second = (
        {name: bytes(content) for name, content in Snapshot(shapes()).write(TENSORS.items()).items()} for _ in range(2)
    )
    assert first == second


def test_no_second_copy_of_the_state_is_made():
    import tracemalloc

    large = {f"model/{index}": np.ones((1 << 18,), np.float32) for index in range(32)}
    snapshot = Snapshot(shapes(large), 4 << 20)
    tracemalloc.start()
    snapshot.write(large.items())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20, "of 32 MiB"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_found_and_a_sum_that_overflows_is_not_taken_for_one(bad):
    tensors = {"model/fine": np.full(4, 3e38, np.float32), "model/bad": np.array([[1.0, bad]])}
    check([("model/fine", tensors["model/fine"])])
    with pytest.raises(NotFinite, match="model/bad"):
        Snapshot(shapes(tensors)).write(tensors.items())


def test_training_goes_on_beside_a_save_and_what_is_written_is_the_state_of_that_moment(saver, slow):
    tensors = {name: value.copy() for name, value in TENSORS.items()}
    with saver:
        save(saver, 10, tensors)
        assert format.complete(slow) == [], "save has returned, and nothing is written"
        tensors["model/a"][:] = -1.0  # the next step
        slow.go.set()
    written, _ = format.read(slow, Checkpoint(10, 1))
    np.testing.assert_array_equal(written["model/a"], TENSORS["model/a"])


def test_a_save_waits_for_the_one_before_and_says_so(saver, slow):
    with saver:
        first = save(saver, 10)
        threading.Timer(0.3, slow.go.set).start()
        second = save(saver, 20)
    assert format.complete(slow) == [Checkpoint(10, 1), Checkpoint(20, 1)]
    saved = [json.loads(line) for line in slow.get("events.jsonl").splitlines()]
    assert [event["step"] for event in saved] == [10, 20]
    assert [event["waited"] for event in saved] == [first, second]
    assert saved[1]["blocked"] >= second > first


@pytest.mark.parametrize("call", ["check", "join", "save", "leave"])
def test_what_goes_wrong_in_the_background_is_told_at_the_next_call_and_once(saver, slow, call):
    save(saver, 10)
    slow.error = exits.CannotRun("cannot write: no space left on device")
    slow.go.set()
    while saver._pending and not saver._pending.done():
        pass
    with pytest.raises(exits.CannotRun, match="no space left"):
        {
            "check": saver.check,
            "join": saver.join,
            "save": lambda: save(saver, 20),
            "leave": lambda: saver.__exit__(None, None, None),
        }[call]()
    assert format.complete(slow) == []
    assert "events.jsonl" not in slow.list_names(), "nothing was announced"
    saver.check()


def test_the_error_that_ends_a_run_is_not_replaced_by_one_of_the_save(saver, slow):
    save(saver, 10)
    slow.error = exits.CannotRun("no space left on device")
    slow.go.set()
    with pytest.raises(exits.Diverged), saver:
        raise exits.Diverged("the loss is nan")
