"""--patience and --max_minutes: where a run stops early, what is left of it, and what continues it; with the fake engine."""

from __future__ import annotations

import itertools
import queue
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.store.nowhere import NowhereStore
from convoy.trainer.checkpoints import select
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loop import stopping
from convoy.trainer.loop.progress import Progress
from convoy.trainer.processes.cluster import Cluster
from convoy.trainer.processes.signals import Signals
from fake_run import FakeEngine, Run, assert_ends_like

LONG = {"duration": "40st", "patience": 2}
BEST = {8: 0.7}  # all other evaluations, every 4 steps, find 0.5: those of 12 and 16 are no better


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that --patience ended at step 16, and to which nothing else happened."""
    run = Run(tmp_path_factory.mktemp("runs") / "stopped")
    run.progress = run.attempt(FakeEngine(accuracies=BEST), **LONG)
    return run


class Killed(BaseException):
    """Nothing of the run's own handles it, as nothing would handle SIGKILL."""


def kill():
    raise Killed


# --patience


def test_it_stops_after_evaluations_that_are_no_better(stopped):
    assert stopped.progress.step == 16
    assert [step for step, split, *_ in stopped.records if split == "eval"] == [4, 8, 12, 16]
    assert stopped.checkpoints == [8, 15, 16], "the two newest, and the best"
    config = RunConfig(data=DataConfig("digits"), **LONG)
    assert stopping.describe(config, 40, stopped.progress) == {
        "because": "patience",
        "step": 16,
        "of": 40,
        "evaluations_since_best": 2,
        "minutes": stopped.progress.wall_seconds / 60,
    }


@pytest.mark.parametrize("patience", [0, 4])
def test_patience_that_is_off_or_long_enough_changes_nothing(run, stopped, patience):
    progress = run.attempt(
        FakeEngine(accuracies={**BEST, 24: 0.8}), **LONG | {"patience": patience, "duration": "36st"}
    )
    assert progress.step == 36
    assert stopping.describe(RunConfig(patience=patience), 36, progress) is None
    assert run.records[:8] == stopped.records


@pytest.mark.parametrize("killed_at", range(1, 17))
def test_a_run_that_died_stops_where_one_that_did_not(run, stopped, killed_at):
    engine = FakeEngine(accuracies=BEST, at_step={killed_at: kill})
    with pytest.raises(Killed):
        run.attempt(engine, steps_per_loop=1, **LONG)
    progress = run.attempt(FakeEngine(accuracies=BEST), **LONG)
    assert progress.step == 16
    assert_ends_like(run, stopped)


@pytest.mark.parametrize("interrupted", [4, 8, 12, 16])
def test_an_evaluation_that_a_signal_ends_counts_once(run, stopped, interrupted):
    ask = {interrupted: lambda: setattr(run.signals, "received", signal.SIGTERM)}
    with pytest.raises(exits.TryAgain):
        run.attempt(FakeEngine(accuracies=BEST, in_evaluation=ask), **LONG)
    run.signals = Signals()
    assert run.attempt(FakeEngine(accuracies=BEST), **LONG).step == 16
    assert_ends_like(run, stopped)


def test_a_run_that_died_before_its_result_was_written_makes_no_step(run, stopped):
    run.attempt(FakeEngine(accuracies=BEST), **LONG)
    progress = run.attempt(FakeEngine(accuracies=BEST), **LONG)
    assert progress.step == 16
    assert "train" not in run.engine.calls
    assert "evaluate" not in run.engine.calls
    assert_ends_like(run, stopped)


def test_more_patience_goes_on_like_a_run_that_began_with_it(run, tmp_path):
    run.attempt(FakeEngine(accuracies=BEST), **LONG)
    other = Run(tmp_path / "other")
    for each in (run, other):
        assert each.attempt(FakeEngine(accuracies=BEST), **LONG | {"patience": 4}).step == 24
    assert_ends_like(run, other)


def test_more_steps_get_as_many_evaluations_again(run):
    run.attempt(FakeEngine(accuracies=BEST), **LONG)
    longer = LONG | {"duration": "48st"}
    with pytest.raises(Killed):
        run.attempt(FakeEngine(accuracies=BEST, at_step={17: kill}), steps_per_loop=1, **longer)
    assert run.attempt(FakeEngine(accuracies=BEST), **longer).step == 24
    assert run.attempt(FakeEngine(accuracies=BEST), **longer).step == 24, "the plan is the one that was cut short"
    assert run.attempt(FakeEngine(accuracies={**BEST, 28: 0.9}), **LONG | {"duration": "60st"}).step == 36


def test_less_patience_waits_for_the_next_evaluation(run):
    with pytest.raises(Killed):
        run.attempt(FakeEngine(accuracies=BEST, at_step={16: kill}), steps_per_loop=1, **LONG | {"patience": 9})
    assert run.attempt(FakeEngine(accuracies=BEST), **LONG | {"patience": 1}).step == 16


def test_a_rollback_takes_its_evaluations_back(run):
    nan = FakeEngine(accuracies=BEST, nan_at={13 * 8})
    assert run.attempt(nan, on_nan="rollback", **LONG).step == 16
    assert [step for step, split, *_ in run.records if split == "eval"] == [4, 8, 12, 16]


def test_the_best_checkpoint_is_there_to_be_measured(run, capsys):
    run.attempt(FakeEngine(accuracies=BEST), **LONG)
    last = run.engine.weight
    assert run.session.restore_step(run.experiment, 8)
    assert (run.engine.iterations, run.engine.weight) == (8, select(run.store, "8")[1]["model/weight"])
    assert run.engine.weight != last
    shutil.rmtree(Path(run.store.url) / "checkpoints" / "00000008.1")
    assert not run.session.restore_step(run.experiment, 8)
    assert "the checkpoint of step 8 is not measured: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("because", "sentence", "remedy"),
    [
        (
            "patience",
            "Stopped early, at step 16 of 40: 2 evaluations in a row (--patience=2) were no better than that of step 8,"
            " 70.00%.",
            "it stopped early, and a higher --patience or a longer --duration continues it",
        ),
        (
            "max_minutes",
            "Stopped early, at step 16 of 40: --max_minutes=1.5 are over.",
            "it stopped early, and a larger --max_minutes continues it",
        ),
    ],
)
def test_a_person_is_told_where_it_stopped_and_why(because, sentence, remedy):
    stopped = {"because": because, "step": 16, "of": 40, "evaluations_since_best": 2, "minutes": 1.5}
    result = {"stopped_early": stopped, "best": {"step": 8, "accuracy": 0.7}}
    assert stopping.sentence(result, RunConfig(patience=2, max_minutes=1.5)) == sentence
    assert stopping.remedy(result) == remedy
    assert stopping.sentence({}, RunConfig()) == stopping.remedy({"stopped_early": None}) == ""


def test_patience_needs_evaluations():
    with pytest.raises(exits.CannotRun, match="--patience=2 is not possible: --eval_split=none leaves no evaluations"):
        RunConfig(data=DataConfig("digits", eval_split="none"), patience=2)


# --max_minutes


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so, and hardly in a process that follows."""
    clock = SimpleNamespace(now=1000.0)
    here = threading.current_thread()

    def now():
        clock.now += 1e-6
        return clock.now if threading.current_thread() is here else next(ticks)

    ticks = itertools.count(0.0, 1e-6)
    monkeypatch.setattr(time, "perf_counter", now)
    return clock


def minutes(clock, accuracies=None, each=1.0):
    """An engine whose every step takes so many minutes."""
    engine = FakeEngine(accuracies=accuracies)
    engine.at_step = {step: lambda: setattr(clock, "now", clock.now + 60 * each) for step in range(100)}
    return engine


TIMED = {"duration": "40st", "steps_per_loop": 1}


def test_it_ends_at_the_next_loop_saved_and_evaluated(run, clock, tmp_path):
    progress = run.attempt(minutes(clock), max_minutes=6.5, **TIMED)
    assert progress.step == 7
    assert [step for step, split, *_ in run.records if split == "eval"] == [4, 7]
    assert run.checkpoints[-1] == 7
    description = stopping.describe(RunConfig(max_minutes=6.5), 40, progress)
    assert (description["because"], round(description["minutes"], 3)) == ("max_minutes", 7.0)

    other = Run(tmp_path / "other")
    other.attempt(duration="7st")
    assert_ends_like(run, other)


def test_the_minutes_of_all_attempts_count(run, clock):
    engine = minutes(clock)
    engine.at_step[4] = kill  # the last save was at step 3
    with pytest.raises(Killed):
        run.attempt(engine, max_minutes=6.5, **TIMED)
    clock.now += 10**6
    assert run.attempt(minutes(clock), max_minutes=6.5, **TIMED).step == 7


def test_a_run_that_used_its_minutes_makes_no_step(run, clock):
    run.attempt(minutes(clock), max_minutes=6.5, **TIMED)
    records = run.records
    assert run.attempt(minutes(clock), max_minutes=6.5, **TIMED).step == 7
    assert "train" not in run.engine.calls
    assert run.records == records


def test_a_run_makes_a_step_in_any_case(run, clock):
    engine = minutes(clock)
    engine.compile = lambda: setattr(clock, "now", clock.now + 3600)
    assert run.attempt(engine, max_minutes=0.5, **TIMED).step == 1


def test_more_minutes_go_on_to_the_weights_of_any_run(run, clock, tmp_path):
    run.attempt(minutes(clock), max_minutes=6.5, **TIMED)
    assert run.attempt(minutes(clock), max_minutes=100, **TIMED | {"duration": "12st"}).step == 12
    other = Run(tmp_path / "other")
    other.attempt(minutes(clock), **TIMED | {"duration": "12st"})
    assert select(run.store, "last")[1] == select(other.store, "last")[1]


def test_a_signal_in_the_last_evaluation_leaves_and_it_is_made_up_for(run, clock):
    engine = minutes(clock)
    engine.in_evaluation = {7: lambda: setattr(run.signals, "received", signal.SIGTERM)}
    with pytest.raises(exits.TryAgain, match="saved at step 7"):
        run.attempt(engine, max_minutes=6.5, **TIMED)
    run.signals = Signals()
    assert run.attempt(minutes(clock), max_minutes=6.5, **TIMED).step == 7
    assert [step for step, split, *_ in run.records if split == "eval"] == [4, 7]


# Several processes


def connected(engines):
    """Makes engines those of one run, in a thread each; returns them."""
    barrier, said = threading.Barrier(len(engines), timeout=10), {}
    messages = [queue.Queue() for _ in engines]

    def join(index, engine):
        engine.cluster = Cluster(index, len(engines))

        def any_flag(flag):
            said[index] = flag
            barrier.wait()
            result = any(said.values())
            barrier.wait()
            return result

        def broadcast(text):
            if engine.cluster.is_leader:
                for follower in messages[1:]:
                    follower.put(text)
                return text
            return messages[index].get(timeout=10)

        engine.any, engine.broadcast, engine.barrier = any_flag, broadcast, lambda: None

    for index, engine in enumerate(engines):
        join(index, engine)
    return engines


@pytest.mark.parametrize(
    ("flags", "step"), [(LONG, 16), ({**TIMED, "max_minutes": 6.5}, 7)], ids=["patience", "max_minutes"]
)
def test_all_processes_stop_at_the_same_step(run, clock, tmp_path, flags, step):
    leader, follower = connected([minutes(clock, BEST), FakeEngine(accuracies=BEST)])
    other, steps = Run(tmp_path / "other"), []
    thread = threading.Thread(
        target=lambda: steps.append(other.attempt(follower, store=NowhereStore(), **flags).step), daemon=True
    )
    thread.start()
    assert run.attempt(leader, **flags).step == step
    thread.join(10)
    assert steps == [step]


# What is finished


@pytest.mark.parametrize(
    ("flags", "over"),
    [
        ({"patience": 2}, True),
        ({"patience": 1}, True),
        ({"patience": 3}, False),
        ({"patience": 0}, False),
        ({"patience": 2, "duration": "41st"}, False),
        ({"patience": 2, "max_minutes": 1}, True),
    ],
    ids=repr,
)
def test_what_continues_a_run_that_patience_ended(stopped, flags, over):
    config = RunConfig(data=DataConfig("digits"), **LONG | flags)
    description = stopping.describe(RunConfig(**LONG), 40, stopped.progress)
    assert stopping.is_over(description, config, int(config.duration_spec.amount)) is over
    assert not stopping.describe(config, 16, stopped.progress), "a run that made all its steps did not stop early"


@pytest.mark.parametrize(
    ("flags", "over"),
    [
        ({"max_minutes": 6}, True),
        ({"max_minutes": 6.5}, True),
        ({"max_minutes": 8}, False),
        ({"max_minutes": 0}, False),
        ({"max_minutes": 6.5, "duration": "41st"}, True),
    ],
    ids=repr,
)
def test_what_continues_a_run_whose_minutes_are_over(flags, over):
    config = RunConfig(data=DataConfig("digits"), **{"duration": "40st"} | flags)
    progress = Progress(step=7, evaluated=7, wall_seconds=7 * 60.0)
    description = stopping.describe(RunConfig(max_minutes=6.5), 40, progress)
    assert stopping.is_over(description, config, int(config.duration_spec.amount)) is over
    assert np.isfinite(description["minutes"])


def test_a_checkpoint_of_a_version_without_patience_begins_to_count():
    values = Progress(step=8, position=64, evaluated=8, best={"step": 8, "loss": 1.0, "accuracy": 0.5}).to_dict()
    for name in ("evaluations_since_best", "total_cut_short"):
        del values[name]
    progress = Progress.from_dict(values, Clock.steady(1, 8))
    assert (progress.evaluations_since_best, progress.total_cut_short) == (0, 0)


@pytest.mark.parametrize(
    "values", [{"evaluations_since_best": 9}, {"total_cut_short": 1 << 40}, {"total_cut_short": -1}]
)
def test_counters_that_no_run_has_are_bad_data(values):
    with pytest.raises(exits.BadData, match="progress has"):
        Progress.from_dict({**Progress(step=8, position=64).to_dict(), **values}, Clock.steady(1, 8))
