"""Sweeps: a job for each point, names that clusters take, and so many at a time."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, strategies

from convoy import exits
from convoy.launch import follow, submit, sweep
from convoy.launch.targets.base import CANCELLED, FAILED, RUNNING, SUCCEEDED, JobState, NoSuchJob
from convoy.launch.targets.options import job_options

OPTIONS = job_options()(name="lr")
TRAIN = ["--run_dir=runs/lr"]


def test_every_point_is_a_job_with_a_name_and_a_run_of_its_own():
    specs = sweep.jobs(OPTIONS, TRAIN, "learning_rate=0.1,0.2;seed=0:2")
    assert len({spec.name for spec in specs}) == len({spec.run.run_dir for spec in specs}) == 4
    assert [(spec.run.learning_rate, spec.run.seed) for spec in specs] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert [spec.name for spec in specs] == [
        spec.name for spec in sweep.jobs(OPTIONS, TRAIN, "learning_rate=0.1,0.2;seed=0:2")
    ]
    assert specs[0].run.run_dir == "runs/lr/lr0.1-seed0"
    with pytest.raises(exits.UsageError, match="did you mean --learning_rate"):
        sweep.jobs(OPTIONS, TRAIN, "learning_rat=0.1")


def test_equal_values_run_once_and_a_note_says_so(capsys):
    specs = sweep.jobs(OPTIONS, TRAIN, "learning_rate=0.1,1e-1,0.2,0.10;seed=1,1")
    assert [spec.name for spec in specs] == [sweep._name("lr", f"lr{rate}-seed1") for rate in ("0.1", "0.2")]
    (note,) = capsys.readouterr().err.splitlines()
    assert "has equal values; no second job for lr0.1-seed1, lr1e-1-seed1, lr1e-1-seed1 and more." in note
    assert len(sweep.jobs(OPTIONS, TRAIN, "learning_rate=0.1,0.2")) == 2
    assert not capsys.readouterr().err


def test_a_value_with_commas_is_one_value():
    specs = sweep.jobs(OPTIONS, TRAIN, "dataset='folder:a,b;c', digits")
    assert [spec.run.data.dataset for spec in specs] == ["folder:a,b;c", "digits"]
    assert [spec.run.run_dir for spec in specs] == ["runs/lr/datasetfolder:a,b%3Bc", "runs/lr/datasetdigits"]


def test_no_run_directory_lies_in_another_and_a_flag_may_be_of_any_kind():
    specs = sweep.jobs(OPTIONS, TRAIN, "dataset=folder:a/b,folder:a,digits")
    assert [spec.run.run_dir for spec in specs] == [
        f"runs/lr/dataset{value}" for value in ("folder:a%2Fb", "folder:a", "digits")
    ]
    assert [spec.run.deterministic for spec in sweep.jobs(OPTIONS, TRAIN, "deterministic=true,false")] == [True, False]
    with pytest.raises(exits.UsageError, match="--workers is a flag of the job"):
        sweep.jobs(OPTIONS, TRAIN, "workers=1,2")


@given(
    strategies.lists(
        strategies.text("abcABC.-_/e0123456789", min_size=1, max_size=30), min_size=2, max_size=2, unique=True
    )
)
def test_names_are_possible_and_differ_where_points_do(values):
    names = [sweep._name("sweep-of-a-thing", f"v{value}") for value in values]
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name) for name in names), names
    assert names[0] != names[1]


class Place:
    """A target whose jobs end after some looks; `there` are the digests of those that it had before."""

    poll_seconds = 0.0

    def __init__(self, ends, there=None):
        self.ends, self.there, self.looks, self.most, self.order = ends, there or {}, {}, 0, []

    def submit(self, spec, replace=False):
        self.looks[spec.name] = 0
        self.order.append(spec.name)
        self.most = max(self.most, sum(looks < 3 for looks in self.looks.values()))
        return JobState(spec.name, RUNNING)

    def state(self, name):
        if name not in self.looks:
            if name in self.there:
                return JobState(name, RUNNING, digest=self.there[name])
            raise NoSuchJob("no")
        self.looks[name] += 1
        if self.looks[name] < 3:
            return JobState(name, RUNNING)
        phase, code = self.ends.get(name, (SUCCEEDED, 0))
        if phase == "gone":
            raise NoSuchJob("no more")
        return JobState(name, phase, exit_code=code)


def test_all_jobs_run_and_only_so_many_at_a_time():
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:7")
    place, told = Place({}), []
    ends = sweep.submit_all(place, specs, 3, report=told.append)
    assert [(end.name, end.phase) for end in ends] == [(spec.name, SUCCEEDED) for spec in specs]
    assert place.order == [spec.name for spec in specs]
    assert place.most == 3
    assert [state.phase for state in told].count(RUNNING) == [state.phase for state in told].count(SUCCEEDED) == 7


def test_some_may_fail_or_be_removed_and_the_others_run():
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:4")
    ends = sweep.submit_all(Place({specs[1].name: (FAILED, 70), specs[2].name: ("gone", None)}), specs, 1)
    assert [end.phase for end in ends] == [SUCCEEDED, FAILED, CANCELLED, SUCCEEDED]
    assert [follow.exit_code(end) for end in ends] == [0, 70, 130, 0]


class Shaky(Place):
    """A place that is away at every other call, once it has answered two."""

    calls = 0

    def answer(self):
        self.calls += 1
        if self.calls > 2 and self.calls % 2:
            raise exits.TryAgain("the place is away")

    def submit(self, spec, replace=False):
        self.answer()
        return super().submit(spec, replace)

    def state(self, name):
        self.answer()
        return super().state(name)


def test_an_outage_of_the_target_is_tolerated(capsys, monkeypatch):
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:2")
    place = Shaky({})
    assert [end.phase for end in sweep.submit_all(place, specs, 1)] == [SUCCEEDED, SUCCEEDED]
    assert place.order == [spec.name for spec in specs]
    assert "convoy: the place is away" in capsys.readouterr().err
    monkeypatch.setattr("convoy.launch.outage.MAX_OUTAGE_SECONDS", -1.0)
    with pytest.raises(exits.TryAgain):
        sweep.submit_all(Shaky({}), specs, 1)


def test_nothing_begins_if_a_name_is_taken_or_given_twice():
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:3")
    place = Place({}, {specs[1].name: specs[1].digest, specs[2].name: "another"})
    with pytest.raises(exits.CannotRun, match="^lr-seed2: of that name there is another job; nothing was submitted"):
        sweep.submit_all(place, specs)
    with pytest.raises(exits.CannotRun, match="two jobs have the same --name"):
        sweep.submit_all(place, [specs[0], specs[0]])
    with pytest.raises(exits.CannotRun, match="--max_parallel=0 is not possible"):
        sweep.submit_all(place, specs, 0)
    assert place.order == []
    assert len(sweep.submit_all(place, specs, replace=True)) == 3


@pytest.fixture
def submitted(monkeypatch):
    """argv -> (exit code, the place to which a sweep was submitted)."""

    def call(place, *argv):
        monkeypatch.setattr(submit, "open_target", lambda where, chaos: place)
        return submit.submit(["--name=lr", *argv, "--", *TRAIN])

    return call


def test_the_command_ends_with_the_code_of_the_first_point_that_failed(submitted, capsys):
    place = Place({"lr-seed1": (FAILED, 70), "lr-seed2": (FAILED, 65)})
    assert submitted(place, "--sweep", "seed=0:4") == 70
    assert capsys.readouterr().out.splitlines().count("lr-seed1: failed, exit code 70") == 1
    # One point is a sweep, too.
    assert submitted(Place({"lr-seed5": (FAILED, 65)}), "--sweep=seed=5:6") == 65


def test_the_runs_of_a_sweep_that_have_finished_are_compared(submitted, monkeypatch, capsys):
    commands = []

    def run(command, **how):
        commands.append(command)
        code, out, err = (0, "Wrote there\n", "") if len(commands) == 1 else (78, "", "convoy: no such bucket.\n")
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(submit.subprocess, "run", run)
    assert submitted(Place({"lr-seed1": (FAILED, 70)}), "--sweep", "seed=0:4") == 70
    base = TRAIN[0].partition("=")[2]
    words = ["report", f"--output={base}/comparison.html", "--", *(f"{base}/seed{seed}" for seed in (0, 2, 3))]
    assert commands[0][-len(words) :] == words
    assert "Wrote there: the runs of the sweep compared" in capsys.readouterr().err
    assert submitted(Place({}), "--sweep", "seed=0:2") == 0, "that they cannot be compared fails nothing"
    assert "Not compared: convoy: no such bucket." in capsys.readouterr().err
    submitted(Place({"lr-seed1": (FAILED, 70)}), "--sweep", "seed=0:2")
    assert len(commands) == 2, "one run is not compared"


def test_ctrl_c_leaves_the_jobs_of_a_sweep_alone(submitted, monkeypatch):
    place = Place({})
    monkeypatch.setattr(place, "state", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(exits.Stopped, match="have begun go on; the same command waits for them"):
        submitted(place, "--sweep=seed=0:2")
    monkeypatch.setattr(place, "submit", lambda spec, replace: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(exits.Stopped, match="`convoy launch status --name=lr` says whether lr has begun"):
        submitted(place)
