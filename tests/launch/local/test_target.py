"""The verbs on this machine, on real workers that wait for each other's names: all of a job but its run."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from convoy import exits
from convoy.launch import watch
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, PENDING, RUNNING, SUCCEEDED, JobState, NoSuchJob
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.job_record import Record
from convoy.launch.targets.local.target import LocalTarget, submission
from local_jobs import alive, job, until, words
from support import command

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("state_directory")]
WAITING = "dns:worker-0,dns:worker-1"


@pytest.fixture
def waiting(monkeypatch) -> JobState:
    """A job that goes on until it is cancelled."""
    monkeypatch.setenv("CONVOY_DNS_SECONDS", "600")
    LocalTarget(WAITING).submit(job())
    return until("try", lambda state, folder: state.phase == RUNNING and words(folder, 0) and words(folder, 1))


def test_the_same_job_again_changes_nothing_and_another_one_is_refused(waiting, tmp_path, monkeypatch):
    pids = JobFolder("try").read().workers
    assert LocalTarget().submit(job()) == LocalTarget().submit(job(), replace=True) == waiting
    for other in (job(run=("--seed=1",)), job(workers=1)):
        with pytest.raises(exits.CannotRun, match="--name=try is another job, which is running; give --replace"):
            LocalTarget().submit(other)
    # Somebody who asks for other faults wants to see them; what was asked for before, or none, is the same job.
    with pytest.raises(exits.CannotRun, match="is another job"):
        LocalTarget("kill:worker-1@step=40").submit(job())
    assert LocalTarget(WAITING).submit(job()) == waiting
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(exits.CannotRun, match="is another job"):
        LocalTarget().submit(job())  # whose --run_dir is another one there
    assert JobFolder("try").read().workers == pids
    assert all(map(alive, pids))
    LocalTarget(WAITING).submit(job(run=("--seed=1",)), replace=True)
    assert not any(map(alive, pids))
    state = LocalTarget().state("try")
    assert state.digest == job(run=("--seed=1",)).digest
    assert state.run_dir == str(tmp_path / "elsewhere" / "run")


def test_looked_after_from_other_processes_until_it_is_cancelled(waiting, convoy, tmp_path, capsys):
    with pytest.raises(exits.CannotRun, match="try is running; `convoy launch cancel --name=try` ends it"):
        LocalTarget().remove("try")
    assert waiting.run_dir == str(tmp_path / "run")
    follower = subprocess.Popen(
        command("launch", "logs", "--name=try", "--worker=1", "--follow"), stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "Worker 1 of 2 of job try.\n"
    assert watch.jobs([]) == 0
    assert "try: running" in capsys.readouterr().out
    cancelled = convoy("launch", "cancel", "--name=try")
    assert cancelled.code == 0
    assert "try: cancelled, asked to leave by SIGTERM before the run began" in cancelled.out
    out, _ = follower.communicate(timeout=60)
    assert out == "convoy: asked to leave by SIGTERM before the run began.\n"
    assert follower.returncode == 0
    assert watch.wait(["--name=try"]) == 130
    assert LocalTarget().cancel("try").phase == CANCELLED
    assert watch.collect([]) == 0
    assert "try: removed" in capsys.readouterr().out
    assert LocalTarget().jobs() == []
    with pytest.raises(NoSuchJob, match="there is no job try on this machine"):
        LocalTarget().state("try")


def test_a_supervisor_that_dies_is_noticed_and_its_workers_leave(waiting, monkeypatch):
    record = JobFolder("try").read()
    os.kill(record.supervisor, signal.SIGKILL)
    state = until("try", lambda state, _: state.phase in ENDS)
    assert (state.phase, state.exit_code) == (FAILED, 42)
    assert f"its supervising process {record.supervisor} is gone" in state.reason
    # The job again waits for those workers to have gone.
    LocalTarget(WAITING).submit(job())
    assert not any(map(alive, record.workers))
    assert LocalTarget().state("try").phase in (PENDING, RUNNING)
    assert JobFolder("try").read().supervisor != record.supervisor


def test_a_peer_that_never_appears_ends_the_job_once_its_restarts_are_used_up(monkeypatch):
    monkeypatch.setenv("CONVOY_DNS_SECONDS", "0.5")
    LocalTarget(WAITING).submit(job("--max_restarts=0"))
    state = until("try", lambda state, _: state.phase in ENDS)
    assert (state.phase, state.exit_code, state.restarts) == (FAILED, 42, 0)
    assert "no restart is left of 0; worker" in state.reason
    assert ".invalid: that worker has not started" in state.reason


def test_a_users_error_is_not_restarted_and_keeps_its_code(convoy):
    outcome = convoy("launch", "submit", "--name=try", "--workers=2", "--wait",
                     "--", "--run_dir=run", "--model=nobodys.net:build")  # fmt: skip
    assert outcome.code == 78, outcome
    assert "has no module nobodys.net" in outcome.out
    assert JobFolder("try").last_attempt(0) == 0
    # It failed: the same job may begin again.
    assert LocalTarget().submit(job(run=("--model=nobodys.net:build",))).phase == PENDING
    state = until("try", lambda state, _: state.phase in ENDS)
    assert (state.phase, state.exit_code) == (FAILED, 78)
    with pytest.raises(exits.CannotRun, match="which has failed"):
        LocalTarget().submit(job())


def test_a_log_of_a_worker_that_does_not_exist(waiting):
    for worker in (-1, 2):
        with pytest.raises(exits.CannotRun, match=f"--worker={worker}: try has 2 workers, from 0 to 1"):
            list(LocalTarget().logs("try", worker, follow=False))


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "A", "x" * 41])
def test_a_name_cannot_be_a_path(name):
    for method in (LocalTarget().state, LocalTarget().cancel, LocalTarget().remove):
        with pytest.raises(exits.CannotRun, match="--name"):
            method(name)


def test_a_state_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(exits.CannotRun, match="cannot use .*file.*; set XDG_STATE_HOME"):
        LocalTarget().submit(job())
    with pytest.raises(exits.CannotRun, match="cannot use .*file.*; set XDG_STATE_HOME"):
        LocalTarget().jobs()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_logs_follow_a_job_into_its_next_attempt(monkeypatch):
    folder = JobFolder("try")
    lock = folder.create(submission(job(), ""), Record(RUNNING))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(LocalTarget().logs("try", 1, follow=True)))
    reader.start()
    with folder.log(1, 0).open("w") as log:
        for text in ("one\n", "half", " a line\n", "cut"):
            log.write(text)
            log.flush()
            time.sleep(0.05)
    folder.log(1, 1).write_text("next\nlast")
    folder.write(dataclasses.replace(folder.read(), phase=SUCCEEDED))
    reader.join(60)
    assert lines == ["one", "half a line", "cut", "next", "last"]
    assert list(LocalTarget().logs("try", 1, follow=False)) == ["next", "last"]
    assert list(LocalTarget().logs("try", 0, follow=False)) == []
    os.close(lock)


def test_a_machine_that_was_switched_off_left_jobs_that_can_be_submitted_again():
    """No process holds their locks; what they wrote last may be cut off, and their numbers may be other processes'."""
    for name, text in (("off", None), ("cut", ""), ("newer", '{"phase": "running", "mood": "good"}')):
        folder = JobFolder(name)
        os.close(
            folder.create(
                submission(job(name=name), ""), Record(RUNNING, supervisor=os.getpid(), workers=[os.getpid()])
            )
        )
        if text is not None:
            (folder.path / "state.json").write_text(text)
    states = {state.name: state for state in LocalTarget().jobs()}
    assert {name: (state.phase, state.exit_code) for name, state in states.items()} == {
        "off": (FAILED, 42),
        "cut": (FAILED, 65),
        "newer": (FAILED, 65),
    }
    assert "is gone (killed, or a full disk)" in states["off"].reason
    assert f"{JobFolder('cut').path}/state.json cannot be used: it does not read as JSON" in states["cut"].reason
    with pytest.raises(exits.CannotRun, match="--name=cut is another job, which has failed; give --replace"):
        LocalTarget().submit(job(name="cut"))
    for state in (LocalTarget(WAITING).submit(job(name="off")), LocalTarget(WAITING).submit(job(name="cut"), True)):
        assert state.phase in (PENDING, RUNNING)
    LocalTarget().remove("newer")
    assert {state.name for state in LocalTarget().jobs()} == {"off", "cut"}


def test_a_supervisor_that_could_not_start_leaves_no_job_that_seems_to_begin(monkeypatch):
    monkeypatch.setattr("convoy.supervise.module", lambda *_: ["false"])
    with pytest.raises(exits.CannotRun, match="did not start; see .*supervisor.log"):
        LocalTarget().submit(job())
    assert (LocalTarget().state("try").phase, LocalTarget().state("try").reason.split(";")[0]) == (
        FAILED,
        "it was never begun",
    )


def test_without_a_home_there_is_a_sentence(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(exits.CannotRun, match="no home directory; set XDG_STATE_HOME"):
        LocalTarget().jobs()
    monkeypatch.undo()


def test_a_job_submitted_by_several_at_once_begins_once():
    states: list[JobState] = []
    threads = [threading.Thread(target=lambda: states.append(LocalTarget(WAITING).submit(job()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(states) == 4
    assert len({state.begun for state in states}) == 1


def test_ctrl_c_leaves_the_job_alone_and_says_so(waiting):
    submit = ["submit", "--name=try", "--workers=2", "--wait", "--", "--run_dir=run"]
    processes = [
        subprocess.Popen(
            command("launch", *argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
        )
        for argv in (["wait", "--name=try"], submit)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "try: running\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err == "convoy: try goes on; `convoy launch wait --name=try` waits for it again, and `cancel` ends it.\n"
    assert LocalTarget().state("try").phase == RUNNING


def test_a_job_whose_folder_somebody_deleted_ends(waiting):
    folder = JobFolder("try")
    record = folder.read()
    shutil.rmtree(folder.path)
    os.close(folder.create(submission(job(run=("--seed=1",)), ""), Record(RUNNING)))
    deadline = time.monotonic() + 60
    while any(map(alive, [record.supervisor, *record.workers])):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert folder.read().phase == RUNNING  # another job's, which stays as it is
