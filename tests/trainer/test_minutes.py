"""--duration=30min: measured once on the first steps, then a number of steps like any other."""

from __future__ import annotations

import dataclasses
import json
import time
from fractions import Fraction
from types import SimpleNamespace

import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.store import open_store
from convoy.trainer import minutes
from convoy.trainer.attempt import _minutes
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.durations import MAX_STEPS, Duration
from convoy.trainer.minutes import StepTime
from convoy.trainer.run_dir import opening
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.trainer.run_dir.stored_config import StoredConfig, from_json
from fake_run import FakeEngine

HALF_HOUR = Duration(Fraction(30), "min")


def test_minutes_are_a_duration_of_the_run_alone():
    assert RunConfig(duration="30min").duration_spec == HALF_HOUR
    assert RunConfig(duration="0.5min").duration_spec.doubled() == "1min"
    for flag in ("warmup", "eval_every", "checkpoint_every", "unfreeze"):
        with pytest.raises(
            exits.CannotRun, match=f"--{flag}=30min is not a duration; write epochs as 10ep .* or whole steps"
        ):
            RunConfig(**{flag: "30min"})
    with pytest.raises(
        exits.CannotRun, match="--duration=2h is not a duration; write .*, minutes of training as 30min,"
    ):
        RunConfig(duration="2h")
    with pytest.raises(exits.CannotRun, match="--duration=0min is not possible: give a duration above zero"):
        RunConfig(duration="0min")


def test_steps_on_kept_features_are_not_measured():
    data = DataConfig("digits")
    with pytest.raises(exits.CannotRun, match="give a --duration in epochs or steps"):
        RunConfig(data=data, duration="30min", cache_features=True, unfreeze="3st")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def timed(clock, seconds: float, first: float = 0.0, **options) -> FakeEngine:
    """An engine whose steps take so many seconds, and the first one more."""
    engine = FakeEngine(**options)
    engine.at_step = {
        step: lambda step=step: setattr(clock, "now", clock.now + seconds + first * (step == 1))
        for step in range(10_000)
    }
    return engine


@pytest.mark.parametrize(("seconds", "steps"), [(0.01, 180_000), (1.0, 1800), (20.0, 90), (4000.0, 1)])
def test_the_first_loop_does_not_count(clock, seconds, steps):
    engine = timed(clock, seconds, first=100.0)
    measured = minutes.measure(HALF_HOUR, engine, range(24))
    assert measured.steps_in(HALF_HOUR) == steps
    assert engine.calls[:2] == [f"stage of {MAX_STEPS - 1}", "compile"], "of the stage that trains the most"
    assert measured.seconds >= 5
    assert measured.steps >= 2


def test_of_a_short_run_a_tenth_is_measured(clock):
    engine = timed(clock, 0.01)
    measured = minutes.measure(Duration(Fraction(1, 6), "min"), engine, range(24))
    assert 1 <= measured.seconds < 2


def test_a_loss_that_is_nan_ends_the_measurement(clock):
    measured = minutes.measure(HALF_HOUR, timed(clock, 1.0, nan_at={0}), range(24))
    assert measured.steps == 1
    assert 1 <= measured.steps_in(HALF_HOUR) <= MAX_STEPS
    assert StepTime(10, 0.0).steps_in(HALF_HOUR) == MAX_STEPS


def test_the_number_is_said_and_what_is_known_is_not_measured_again(clock):
    engine = timed(clock, 1.0)
    engine.notes.append("a note of the engine")
    assert minutes.settle(HALF_HOUR, engine, range(24), lambda: "") == (
        "1800st",
        ["a note of the engine", "--duration=30min is 1800st, at 1,000 ms a step as measured on the first ones."],
    )
    known = FakeEngine()
    assert minutes.settle(HALF_HOUR, known, range(24), lambda: "77st") == ("77st", [])
    assert known.calls == []


def stored(asked: str = "30min", duration: str = "1800st") -> StoredConfig:
    config = RunConfig("run", DataConfig("digits"), duration=duration).with_defaults()
    return from_json(config.to_json("0" * 32, asked), "run/config.json")


@pytest.mark.parametrize(
    ("asked", "steps", "allowed"), [("30min", "1800st", True), ("60min", "3600st", True), ("10min", "600st", False)]
)
def test_a_continued_run_has_the_steps_that_were_measured(asked, steps, allowed):
    config = RunConfig("run", DataConfig("digits"), duration=asked).with_defaults()
    assert opening.measured_duration(config, stored()) == steps
    assert (differences(stored().unchecked, dataclasses.replace(config, duration=steps)) == []) is allowed
    assert opening.measured_duration(config, None) == ""
    assert opening.measured_duration(RunConfig(duration="5ep"), stored()) == ""


def test_what_began_with_epochs_does_not_go_on_in_minutes():
    config = RunConfig("run", DataConfig("digits"), duration="30min").with_defaults()
    with pytest.raises(exits.CannotRun, match="--duration=30min, but the run was begun with --duration=10ep"):
        opening.measured_duration(config, stored("", "10ep"))


def test_the_minutes_stay_known_while_the_steps_are_the_same():
    steps, more = (RunConfig(duration=duration) for duration in ("1800st", "9000st"))
    assert _minutes(RunConfig(duration="30min"), steps, None) == "30min"
    assert _minutes(steps, steps, stored()) == "30min", "continued by --flagfile=run/config.flags"
    assert _minutes(more, more, stored()) == ""
    assert _minutes(steps, steps, None) == ""


@pytest.mark.parametrize("minutes", ["", "0min", "30ep", "1e3min", 30, ["30min"], "30min\n"])
def test_minutes_that_no_run_writes_are_passed_over(minutes):
    config = json.loads(RunConfig(duration="5st").to_json("0" * 32))
    assert from_json(json.dumps({**config, "minutes": minutes}).encode(), "here").minutes == ""
    with pytest.raises(exits.BadData, match="its duration was not measured"):
        from_json(json.dumps({**config, "duration": "30min"}).encode(), "here")


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_of_minutes_is_the_run_of_its_steps(convoy, tmp_path, backend):
    """It says how many steps these are, goes on to the same end, and has the bits of that many steps."""
    from support import assert_same_bits

    flags = [f"--backend={backend}", "--dataset=digits", "--batch_size=64", "--augment=article", "--deterministic",
             "--schedule=cosine", "--eval_every=50ep", "--checkpoint_every=50ep"]  # fmt: skip
    outcome = convoy("train", *flags, "--duration=0.1min", "--run_dir=run")
    assert outcome.code == 0, outcome
    [line] = [line for line in (tmp_path / "run" / "config.flags").read_text().splitlines() if "--duration" in line]
    assert line.endswith("st")
    assert f"Note: --duration=0.1min is {line.partition('=')[2]}, at " in outcome.out
    again = convoy("train", *flags, "--duration=0.1min", "--run_dir=run")
    assert "run is finished" in again.out
    assert convoy("train", *flags, line, "--run_dir=steps").code == 0
    assert_same_bits(tmp_path / "run", tmp_path / "steps")
    store = open_store(str(tmp_path / "run"))
    assert json.loads(store.get("config.json"))["minutes"] == "0.1min"
