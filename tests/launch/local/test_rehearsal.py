"""The failure policy of a cluster, followed on this machine: workers that only pretend, and how they end."""

from __future__ import annotations

import os
import sys

import pytest

from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, SUCCEEDED
from convoy.launch.targets.local import pod, rehearsal
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.job_record import Record
from convoy.launch.targets.local.rehearsal import Rehearsal
from convoy.launch.targets.local.target import submission
from local_jobs import job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("state_directory")]


def rehearse(monkeypatch, body: str, *argv: str, chaos: str = "") -> tuple[Record, JobFolder]:
    """A job whose workers are `body`, with `i` the worker, `a` the attempt, and `meet` to wait for one another."""
    program = f"""import os, signal, sys, time
i, a = int(os.environ["JOB_COMPLETION_INDEX"]), int(os.environ["CONVOY_RESTART_ATTEMPT"])
def meet():
    open(f"here-{{i}}-{{a}}", "w").close()
    while not os.path.exists(f"here-{{1 - i}}-{{a}}"): time.sleep(0.01)
{body}"""
    monkeypatch.setattr(rehearsal, "POLL_SECONDS", 0.03)
    monkeypatch.setattr(pod, "command", lambda spec: [sys.executable, "-S", "-c", program])
    spec = job(*argv)
    folder = JobFolder(spec.name)
    lock = folder.create(submission(spec, chaos), Record(PENDING))
    Rehearsal(folder).run()
    os.close(lock)
    return folder.read(), folder


def test_a_job_succeeds_when_all_workers_have(monkeypatch):
    record, folder = rehearse(monkeypatch, "time.sleep(0.1 * i); print('worker', i)")
    assert (record.phase, record.exit_code, record.restarts) == (SUCCEEDED, 0, 0)
    assert [folder.log(i, 0).read_text() for i in (0, 1)] == ["worker 0\n", "worker 1\n"]


@pytest.mark.parametrize("code", [1, 2, 65, 70, 78, 126, 127, 130])
def test_an_exit_code_not_worth_a_restart_ends_the_job(monkeypatch, code):
    body = f"print('convoy: a sentence.') if i else 0; sys.exit({code}) if i else time.sleep(600)"
    record, _ = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, code, 0)
    assert record.reason == f"worker 1 ended with exit code {code}: a sentence"


@pytest.mark.parametrize(
    ("death", "code"), [("sys.exit(42)", 42), ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("os.abort()", 134)]
)
def test_an_exit_code_worth_a_restart_starts_all_workers_again(monkeypatch, death, code):
    body = f"if a < 2:\n    if i == a:\n        {death}\n    time.sleep(600)\nprint('again')"
    recorded, record_it = [], Rehearsal._record
    monkeypatch.setattr(
        Rehearsal, "_record", lambda self, *args, **named: (recorded.extend(args), record_it(self, *args, **named))
    )
    record, folder = rehearse(monkeypatch, body, "--max_restarts=2")
    assert (record.phase, record.restarts, record.reason) == (SUCCEEDED, 2, "")
    assert folder.last_attempt(0) == folder.last_attempt(1) == 2
    assert (
        f"worker 1 ended with exit code {code}: `convoy launch logs --name=try --worker=1` has what it said" in recorded
    )


def test_restarts_are_limited(monkeypatch):
    record, folder = rehearse(monkeypatch, "sys.exit(42)", "--max_restarts=2")
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, 42, 2)
    assert record.reason.startswith("no restart is left of 2; worker ")
    assert folder.last_attempt(0) == 2


def test_a_fault_that_never_came_is_reported(monkeypatch):
    record, _ = rehearse(monkeypatch, "", chaos="kill:worker-1@step=4000")
    assert (record.phase, record.reason) == (SUCCEEDED, "--chaos never came: the run was over before")


def test_an_indexed_job_is_not_restarted(monkeypatch):
    record, _ = rehearse(monkeypatch, "sys.exit(42)", "--gang=indexed")
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, 42, 0)


def test_the_other_workers_have_a_grace_period_to_save(monkeypatch):
    body = """signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(42)))
meet()
if i == 0: sys.exit(70)
time.sleep(600)"""
    record, folder = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code) == (FAILED, 70)
    assert folder.log(1, 0).read_text() == "saved\n"


def test_after_the_grace_period_they_are_killed(monkeypatch):
    monkeypatch.setattr(rehearsal, "GRACE_SECONDS", 0.2)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nmeet()\nif i == 0: sys.exit(70)\ntime.sleep(600)"
    record, _ = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code) == (FAILED, 70)


def test_an_attempt_has_its_hours(monkeypatch):
    record, _ = rehearse(monkeypatch, "time.sleep(600)", "--hours=0.0001")
    assert (record.phase, record.restarts, record.reason) == (FAILED, 0, "not finished within --hours=0.0001")


def test_a_permanent_failure_decides_when_several_workers_end_together(monkeypatch):
    # Both have ended before the first look.
    start = Rehearsal._start

    def start_and_wait(self, attempt):
        start(self, attempt)
        for process in self.workers:
            process.wait()

    monkeypatch.setattr(Rehearsal, "_start", start_and_wait)
    record, _ = rehearse(monkeypatch, "sys.exit(78 if i else 42)")
    assert (record.phase, record.exit_code) == (FAILED, 78)


def test_faults_reach_the_first_attempt_and_the_shells_own_variables_reach_none(monkeypatch):
    monkeypatch.setenv("CONVOY_CHAOS", "kill:step@1")
    monkeypatch.setenv("TF_CONFIG", "another run's")
    body = """for name in ("CHAOS", "WRITER", "DNS_SECONDS"): print(name, os.environ.get(f"CONVOY_{name}"))
print("TF_CONFIG" in os.environ)
print(",".join(host.split(":")[0] for host in os.environ["CONVOY_HOSTS"].split(",")), flush=True)
meet()
sys.exit(0 if a else 42)"""
    record, folder = rehearse(monkeypatch, body, chaos="term:worker-1@step=40,dns:worker-0")
    assert (record.phase, record.restarts) == (SUCCEEDED, 1)
    lines = {(i, a): folder.log(i, a).read_text().splitlines() for i in (0, 1) for a in (0, 1)}
    writer = f"WRITER {folder.job()['id']}"  # all attempts have one
    plain = ["CHAOS None", writer, "DNS_SECONDS None", "False", "127.0.0.1,127.0.0.1"]
    assert lines[0, 1] == lines[1, 1] == plain
    # A worker has its own name right: it is the others that do not find it.
    assert lines[0, 0] == ["CHAOS None", writer, "DNS_SECONDS 10", "False", "127.0.0.1,127.0.0.1"]
    assert lines[1, 0] == ["CHAOS term:between@40", writer, "DNS_SECONDS 10", "False", "worker-0.invalid,127.0.0.1"]


def test_cancelling_a_job_that_has_succeeded_comes_too_late(monkeypatch):
    monkeypatch.setattr(
        Rehearsal, "_watch", lambda self: (self.workers[0].wait(), self.workers[1].wait(), (CANCELLED, 0))[2]
    )
    record, _ = rehearse(monkeypatch, "")
    assert (record.phase, record.exit_code) == (SUCCEEDED, 0)


def test_the_first_line_of_a_worker_is_not_its_last_sentence(monkeypatch):
    monkeypatch.setattr(Rehearsal, "_watch", lambda self: (CANCELLED, 0))
    body = "print('Worker 0 of 2 of job try.', flush=True); time.sleep(600)"
    record, _ = rehearse(monkeypatch, body)
    assert (record.phase, record.reason) == (CANCELLED, "")
