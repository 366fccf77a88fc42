"""metrics.jsonl and its TensorBoard twin; what a resume takes back; the plan of boundaries."""

from __future__ import annotations

import json

import pytest

from convoy.store.local import LocalStore
from convoy.trainer.config import RunConfig
from convoy.trainer.loop.plan import Plan
from convoy.trainer.outputs.recorder import Recorder
from convoy.trainer.outputs.records import attempts, read_metrics


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path))


def record(recorder, *steps):
    for step in steps:
        recorder.metrics("train", step, step / 10, step * 8, loss=1.0 / step)


def test_after_a_resume_nothing_is_repeated(store):
    first = Recorder(store, 1)
    first.event("start")
    record(first, 10, 20, 30)
    store.append("metrics.jsonl", '{"step": 40, "cut sh')
    second = Recorder(store, attempts(store) + 1)
    second.event("start")
    second.resume(lines=2, step=20)
    record(second, 30)
    assert [line["step"] for line in read_metrics(store)] == [10, 20, 30]
    assert second.lines == 3
    repeated = [json.loads(line) for line in store.get("events.jsonl").splitlines()][-1]
    assert repeated["event"] == "repeated"
    assert repeated["attempt"] == 2
    assert [line["step"] if isinstance(line, dict) else line for line in repeated["lines"]] == [
        30,
        '{"step": 40, "cut sh',
    ]
    store.append("events.jsonl", '{"event": "sav')
    assert attempts(store) == 2, "a torn line does not hide the attempt"


def test_tensorboard_shows_each_step_once(store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Recorder(store, 1)
    record(first, 10, 20, 30)
    first.close()
    import time

    time.sleep(1.1)  # the names of event files count seconds
    second = Recorder(store, 2)
    second.resume(lines=2, step=20)
    record(second, 30, 40)
    second.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [point.step for point in board.Scalars("train/loss")] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("duration", "eval_every", "checkpoint_every"), [("60st", "20st", "7st"), ("3.3ep", "1ep", "0.4ep")]
)
def test_the_plan_meets_every_boundary_and_ends_on_both(duration, eval_every, checkpoint_every):
    config = RunConfig(batch_size=7, duration=duration, eval_every=eval_every, checkpoint_every=checkpoint_every)
    plan = Plan.from_config(config, 100)
    step, evaluated, saved = 0, [], []
    while step < plan.total:
        step = min(plan.next_evaluation(step), plan.next_checkpoint(step))
        evaluated += [step] * plan.evaluates_at(step)
        saved += [step] * plan.saves_at(step)
    assert evaluated[-1] == saved[-1] == plan.total
    assert evaluated == [s for s in range(plan.total + 1) if plan.evaluates_at(s)]
    assert saved == [s for s in range(plan.total + 1) if plan.saves_at(s)]
    if duration == "60st":
        assert evaluated == [20, 40, 60]
        assert saved == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    else:
        assert (plan.total, evaluated) == (48, [15, 29, 43, 48])  # ceil(3.3 * 100 / 7); ends of epochs, and the end
    assert plan.epoch(plan.total) == pytest.approx(plan.total * 7 / 100)
