"""Where the time went: by hand."""

from __future__ import annotations

import pytest

from convoy.trainer.outputs import goodput


def event(name, time, **values):
    return {"event": name, "time": time, "attempt": 1, **values}


FIRST = [
    event("start", 103.0, began=100.0),
    event("training", 104.0, step=0),
    event("spent", 110.0, step=20, seconds={"compile": 2.0, "steps": 3.0, "input_wait": 1.0}),
    event("saved", 110.5, step=20, seconds=0.5, blocked=0.1),
    event("spent", 116.0, step=40, seconds={"steps": 5.0, "save_blocked": 0.1, "evaluation": 0.5}),
]


def test_a_run_that_nobody_disturbed():
    found = goodput.summarize(FIRST, now=120.0)
    assert found["wall_seconds"] == 20.0
    assert found["fraction"] == pytest.approx(8 / 20)
    assert found["seconds"]["start"] == 4.0
    assert found["seconds"]["other"] == pytest.approx(20 - 4 - 6 - 5.6)
    assert sum(found["seconds"].values()) == pytest.approx(20.0)
    assert found["saving_seconds"] == 0.5


def test_what_was_done_again_counts_for_nothing_the_first_time():
    second = [
        event("start", 133.0, began=130.0),
        "a line that a death cut sh",
        event("restored", 133.5, step=20),
        event("training", 134.0, step=20),
        event("spent", 140.0, step=40, seconds={"compile": 1.0, "steps": 4.0}),
        event("finished", 141.0, step=40),
    ]
    found = goodput.summarize([*FIRST, *second], now=141.0)
    assert found["wall_seconds"] == 41.0
    assert found["fraction"] == pytest.approx(7 / 41)
    assert found["seconds"]["repeated"] == pytest.approx(5.6)
    assert found["seconds"]["lost"] == pytest.approx(14.0), "from the last it said until the next one began"
    assert found["seconds"]["start"] == 8.0
    assert sum(found["seconds"].values()) == pytest.approx(41.0)


def test_time_between_attempts_is_down_where_the_first_left_by_itself():
    found = goodput.summarize([*FIRST, event("left", 117.0, step=40), event("start", 133.0, began=130.0)], now=133.0)
    assert found["seconds"]["down"] == pytest.approx(13.0)
    assert "lost" not in found["seconds"]


def test_a_rollback_takes_back_what_came_after():
    found = goodput.summarize([*FIRST, event("rollback", 117.0, step=20)], now=120.0)
    assert found["seconds"]["repeated"] == pytest.approx(5.6)
    assert found["seconds"]["steps"] == 3.0


def test_a_ledger_gives_each_second_once():
    ledger = goodput.Ledger()
    ledger.add("steps", 2.0)
    ledger.add("steps", 1.0)
    with ledger.counting("evaluation"):
        pass
    taken = ledger.take()
    assert taken["steps"] == 3.0
    assert set(taken) <= set(goodput.KINDS)
    assert ledger.take() == {}
