"""Sweeps: the grid, names that clusters take, and so many at a time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies

from convoy import exits
from launch import sweep, watch
from launch.job import JobOptions
from launch.targets import FAILED, RUNNING, SUCCEEDED, JobState

OPTIONS = JobOptions(name="lr")
TRAIN = ["--run_dir=runs/lr"]


def test_a_grid_has_every_combination_in_order():
    assert sweep.points("learning_rate=0.1,0.2; seed=0:2") == [
        (("learning_rate", "0.1"), ("seed", "0")),
        (("learning_rate", "0.1"), ("seed", "1")),
        (("learning_rate", "0.2"), ("seed", "0")),
        (("learning_rate", "0.2"), ("seed", "1")),
    ]
    assert sweep.points("") == [()]


def test_a_flag_of_the_sweep_may_stand_for_itself():
    argv = ["--name=a", "--sweep", "lr=1,2", "--sweep=seed=0:3", "--wait"]
    assert sweep.joined(argv) == ["--name=a", "--wait", "--sweep=lr=1,2;seed=0:3"]
    assert sweep.joined(["--name=a"]) == ["--name=a"]


@pytest.mark.parametrize("text", ["learning_rate", "=1", "seed=", "seed=3:3", "seed=1,1", "a b=1"])
def test_what_is_no_grid_is_a_sentence(text):
    with pytest.raises(exits.UsageError, match="--sweep="):
        sweep.points(text)


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


@given(
    strategies.lists(
        strategies.text("abcXYZ.-_e0123456789", min_size=1, max_size=30), min_size=2, max_size=2, unique=True
    )
)
def test_names_can_be_names_and_differ_where_points_do(values):
    names = [sweep._name("sweep-of-a-thing", f"v{value}") for value in values]
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name) for name in names), names
    assert names[0] != names[1]


class Place:
    """A target whose jobs end after some looks."""

    def __init__(self, ends):
        self.ends, self.looks, self.most, self.order = ends, {}, 0, []

    def submit(self, spec, replace=False):
        self.looks[spec.name] = 0
        self.order.append(spec.name)
        self.most = max(self.most, sum(looks < 3 for looks in self.looks.values()))
        return JobState(spec.name, RUNNING)

    def state(self, name):
        self.looks[name] += 1
        if self.looks[name] < 3:
            return JobState(name, RUNNING)
        phase, code = self.ends.get(name, (SUCCEEDED, 0))
        return JobState(name, phase, exit_code=code)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(sweep, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)


def test_so_many_run_at_a_time_and_all_of_them(capsys):
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:7")
    place = Place({})
    assert sweep.run(place, specs, 3, False) == 0
    assert place.order == [spec.name for spec in specs]
    assert place.most == 3
    assert capsys.readouterr().out.count("succeeded") == 7


def test_a_sweep_ends_with_the_code_of_the_first_that_failed_and_runs_the_others():
    specs = sweep.jobs(OPTIONS, TRAIN, "seed=0:4")
    place = Place({specs[1].name: (FAILED, 70), specs[2].name: (FAILED, 65)})
    assert sweep.run(place, specs, 1, False) == 70
    assert len(place.order) == 4


def test_wait_ends_with_the_jobs_code(capsys):
    for phase, code, expected in ((SUCCEEDED, 0, 0), (FAILED, 70, 70), (FAILED, None, 1), ("cancelled", 130, 130)):
        place = Place({"one": (phase, code)})
        place.looks["one"] = 0
        assert watch.until_the_end(place, "one") == expected
        assert capsys.readouterr().out.splitlines()[0] == "one: running"
