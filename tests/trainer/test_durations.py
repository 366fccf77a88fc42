"""Durations in exact arithmetic."""

from __future__ import annotations

import pytest

from convoy import exits
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import Duration


@pytest.mark.parametrize(
    ("text", "examples", "batch_size", "steps"),
    [
        ("10ep", 50_000, 128, 3907),
        ("1ep", 100, 100, 1),
        ("1ep", 101, 100, 2),
        ("0.5ep", 101, 10, 6),
        ("0.1ep", 1000, 10, 10),  # 0.1 in binary would give 11
        ("3ep", 1, 128, 1),
        ("600st", 7, 3, 600),
    ],
)
def test_steps(text, examples, batch_size, steps):
    assert Duration.parse(text, "duration").steps(Clock.steady(examples, batch_size)) == steps


@pytest.mark.parametrize(("text", "batch_size"), [("1ep", 7), ("0.3ep", 7), ("2.5ep", 64), ("0.01ep", 64), ("13st", 5)])
def test_boundaries_are_visited_one_after_the_other(text, batch_size):
    clock, duration = Clock.steady(100, batch_size), Duration.parse(text, "eval_every")
    expected = sorted({duration.boundary(times, clock) for times in range(1, 500)})
    step = 0
    for boundary in expected[:30]:
        for between in range(step, boundary):
            assert duration.next_after(between, clock) == boundary
        step = boundary


@pytest.mark.parametrize("text", ["", "10", "ep", "-1ep", "1.5st", "10 ep", "1e3st", "10epochs"])
def test_what_is_no_duration(text):
    with pytest.raises(exits.CannotRun, match=f"--warmup={text} is not a duration"):
        Duration.parse(text, "warmup")


@pytest.mark.parametrize(("text", "steps"), [("2ep", 40), ("0.5ep", 10), ("13st", 13)])
def test_how_often_a_duration_has_passed(text, steps):
    duration, clock = Duration.parse(text, "eval_every"), Clock.steady(100, 5)
    assert [duration.times_at(step, clock) for step in (0, steps - 1, steps, 3 * steps + 1)] == [0, 0, 1, 3]


def test_a_duration_far_below_a_step_has_a_boundary_at_each():
    duration = Duration.parse("0.00000000000000000001ep", "eval_every")
    assert [duration.next_after(step, Clock.steady(100, 5)) for step in (0, 1, 1000)] == [1, 2, 1001]
