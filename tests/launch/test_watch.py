"""Looking after jobs: what wait ends with, what a screen shows, which commands a sentence tells."""

from __future__ import annotations

import itertools
import json
import types

import pytest

from convoy import exits, streams
from convoy.launch import follow, outage, watch
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, JobState, NoSuchJob
from convoy.launch.targets.options import target_options


class Place:
    """A target with one job, and what it is doing at one look after the other; None: there is none."""

    poll_seconds = 0.0

    def __init__(self, *states):
        self.states = iter(states)

    def state(self, name):
        if (state := next(self.states)) is None:
            raise NoSuchJob(f"there is no job {name}")
        return state


@pytest.mark.parametrize(
    ("phase", "code", "expected"),
    [(SUCCEEDED, 0, 0), (FAILED, 70, 70), (FAILED, None, exits.BUG), (CANCELLED, None, exits.STOPPED)],
)
def test_wait_reports_each_change_once_and_ends_with_the_jobs_code(capsys, phase, code, expected):
    going = JobState("one", RUNNING)
    place = Place(
        going, going, JobState("one", RESTARTING, "a peer was lost", 1), JobState("one", phase, exit_code=code)
    )
    assert follow.until_the_end(place, "one") == expected
    first, second, last = capsys.readouterr().out.splitlines()
    assert (first, second) == ("one: running", "one: restarting, 1 restart, a peer was lost")
    assert last.startswith(f"one: {phase}")


def test_a_job_that_is_gone_between_two_looks_was_cancelled(capsys):
    with pytest.raises(NoSuchJob):
        follow.until_the_end(Place(None), "one")
    assert follow.until_the_end(Place(JobState("one", RUNNING), None), "one") == exits.STOPPED
    assert capsys.readouterr().out.splitlines() == ["one: running", "one: cancelled, it was removed"]


def test_wait_gives_up_after_its_time():
    with pytest.raises(exits.TryAgain, match="one has not ended within --timeout=1e-09 s; it goes on"):
        follow.until_the_end(Place(*[JobState("one", PENDING)] * 9), "one", 1e-9)


@pytest.mark.parametrize("timeout", ["-1", "nan"])
def test_an_impossible_timeout(timeout):
    with pytest.raises(exits.CannotRun, match=f"--timeout={timeout}.* is not possible"):
        watch.wait(["--name=one", f"--timeout={timeout}"])


def test_logs_end_when_nobody_reads_them_any_more(monkeypatch, capsys):
    endless = types.SimpleNamespace(logs=lambda name, worker, follow: map(str, itertools.count()))
    monkeypatch.setattr(watch, "open_target", lambda place: endless)
    monkeypatch.setattr(streams, "is_read", lambda: "2\n" not in capsys.readouterr().out)
    assert watch.logs(["--name=one", "--follow"]) == 0


def test_a_recommended_command_is_quoted_for_the_shell():
    where = target_options()(target="k8s", context="mine; reboot", namespace="training")
    told = follow.command("wait", "one", where)
    assert told == "`convoy launch wait --name=one --target=k8s --namespace=training '--context=mine; reboot'`"


STATUS = {"step": 1000, "total": 4000, "epoch": 2.5, "images_per_second": 1234.5, "loss": 0.25, "eta_seconds": 3725.0,
          "updated": 0.0}  # fmt: skip


def test_status_shows_the_progress_of_the_run(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps(STATUS))
    begun, *rows, updated = watch._details(JobState("one", RUNNING, run_dir=str(tmp_path), begun=1.0))
    assert (begun[0], updated[0]) == ("submitted", "updated")
    told = [
        ("run", str(tmp_path)),
        ("step", "1,000 of 4,000, epoch 2.5"),
        ("speed", "1,234 images/s"),
        ("loss", "0.2500"),
    ]
    assert rows == [*told, ("ETA", "1:02:05")]
    # Of one that has ended nothing is left to wait for, and a loss that is no number is none.
    (tmp_path / "status.json").write_text(json.dumps({**STATUS, "loss": None}))
    _, *rows, _ = watch._details(JobState("one", FAILED, run_dir=str(tmp_path), begun=1.0))
    assert rows == told[:-1]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"step": "far"}'])
def test_the_step_of_a_run_without_a_status_is_not_yet_known(tmp_path, text):
    if text is not None:
        (tmp_path / "status.json").write_text(text)
    assert watch._details(JobState("one", RUNNING, run_dir=str(tmp_path)))[-1] == ("step", "not yet known")


def test_an_outage_counts_from_its_first_failure_whatever_came_before(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("convoy.launch.outage.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    away = outage.OutageTolerance()

    def look(moment, well):
        now[0] = moment
        with away.tolerate():
            if not well:
                raise exits.TryAgain("away")

    look(1.0, well=True)
    look(90_000.0, well=False)  # a day of lines later
    look(90_000.0 + outage.MAX_OUTAGE_SECONDS, well=False)
    look(92_000.0, well=True)
    look(99_000.0, well=False)
    with pytest.raises(exits.TryAgain, match="away"):
        look(99_001.0 + outage.MAX_OUTAGE_SECONDS, well=False)
    assert capsys.readouterr().err == "convoy: away\n" * 3
