"""status.json: written beside the run, never in its way."""

from __future__ import annotations

import json
import threading

import pytest

from convoy import exits
from convoy.store.local import LocalStore
from convoy.trainer.outputs import status
from convoy.trainer.outputs.status import Status


def read(store: LocalStore) -> dict:
    return json.loads(store.get("status.json"))


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("error", "phase", "code"),
    [
        (None, "finished", 0),
        (exits.TryAgain("saved"), "left", 42),
        (exits.Stopped("saved"), "left", 130),
        (exits.Diverged("nan"), "failed", 70),
        (ValueError("bug"), "failed", 1),
    ],
)
def test_how_a_run_ended(store, error, phase, code):
    def run():
        with Status(store) as told:
            told.begin(attempt=2, step=5, epoch=0.5, total=100)
            told.update(10, 1.0, 123.456, 0.25, 2.0)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            run()
    else:
        run()
    found = read(store)
    assert found.pop("updated") > 0
    assert found == {"phase": phase, "step": 10, "total": 100, "epoch": 1.0, "images_per_second": 123.5, "loss": 2.0,
                     "input_wait": 0.25, "eta_seconds": None, "attempt": 2, "exit_code": code}  # fmt: skip


def test_a_run_that_did_not_begin_has_no_status(store):
    with pytest.raises(exits.CannotRun), Status(store):
        raise exits.CannotRun("another run's directory")
    assert store.list_names() == []


def test_what_is_left_counts_all_that_goes_on_beside_steps(store, monkeypatch):
    monkeypatch.setattr(status, "SECONDS_BETWEEN", 0.0)
    now = [1000.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    told = Status(store)
    told.begin(1, 0, 0.0, 100)
    seen = []
    # A loop to step 10, 20 s for 10 steps, and the loop after a rollback to 5.
    for step, seconds in ((10, 0.0), (20, 20.0), (5, 7.0), (15, 10.0)):
        now[0] += seconds
        told.update(step, 0.0, 1.0, None, float("nan"))
        assert told._writing is not None
        told._writing.result(30)
        seen.append(read(store)["eta_seconds"])
    assert seen == [None, 160.0, None, 85.0]
    assert read(store)["loss"] is None


class SlowStore(LocalStore):
    """Writes when it is told to, and then fails."""

    def __init__(self, root):
        super().__init__(root)
        self.go, self.asked = threading.Event(), []

    def put(self, name, data):
        self.asked.append(json.loads(data)["step"])
        assert self.go.wait(60)
        raise exits.TryAgain("storage is away")


def test_slow_storage_holds_up_nothing_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(status, "_LAST_SECONDS", 0.0)
    slow = SlowStore(str(tmp_path))
    with Status(slow) as told:
        told.begin(1, 0, 0.0, 100)
        for step in range(1, 50):
            told.update(step, 0.0, 1.0, None, 1.0)
    slow.go.set()
    told._pool.shutdown(wait=True)
    assert slow.asked == [0, 49], "what came while it wrote was passed over, but for the last word"
