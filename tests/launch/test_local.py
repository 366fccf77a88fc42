"""A job on this machine: the pods' command and environment, a cluster's failure policy, and verbs that work from elsewhere."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from convoy import exits
from launch import faults, manifest, rehearsal
from launch.documents import base, job_spec
from launch.job import JobSpec, from_argv
from launch.rehearsal import Rehearsal
from launch.state import JobFolder, Record
from launch.targets import CANCELLED, ENDS, FAILED, PENDING, RUNNING, SUCCEEDED, JobState
from launch.targets.local import LocalTarget, about
from support import QUICK, assert_same_bits, command, events_of, once, records_of, result_of, run_workers

THOROUGH = pytest.mark.thorough


@pytest.fixture(autouse=True)
def state_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield
    for state in LocalTarget().jobs():
        LocalTarget().cancel(state.name)


def job(*argv: str, workers: int = 2, name: str = "try", run: tuple[str, ...] = ()) -> JobSpec:
    return from_argv([f"--name={name}", f"--workers={workers}", *argv, "--", "--run_dir=run", *run])


# --- The policy, with workers that only pretend ---


def rehearse(monkeypatch, body: str, *argv: str, chaos: str = "") -> tuple[Record, JobFolder]:
    """A job whose workers are `body`, with `i` the worker, `a` the attempt, and `meet` to wait for one another."""
    program = f"""import os, signal, sys, time
i, a = int(os.environ["JOB_COMPLETION_INDEX"]), int(os.environ["CONVOY_RESTART_ATTEMPT"])
def meet():
    open(f"here-{{i}}-{{a}}", "w").close()
    while not os.path.exists(f"here-{{1 - i}}-{{a}}"): time.sleep(0.01)
{body}"""
    monkeypatch.setattr(rehearsal, "command", lambda spec: [sys.executable, "-c", program])
    spec = job(*argv)
    folder = JobFolder(spec.name)
    lock = folder.create(about(spec, chaos), Record(PENDING))
    Rehearsal(folder).run()
    os.close(lock)
    return folder.read(), folder


def test_a_job_succeeds_when_all_workers_have(monkeypatch):
    record, folder = rehearse(monkeypatch, "time.sleep(0.3 * i); print('worker', i)")
    assert (record.phase, record.exit_code, record.restarts) == (SUCCEEDED, 0, 0)
    assert [folder.log(i, 0).read_text() for i in (0, 1)] == ["worker 0\n", "worker 1\n"]


@pytest.mark.parametrize("code", [1, 2, 65, 70, 78, 126, 127, 130])
def test_an_exit_code_that_another_start_would_not_change_ends_the_job(monkeypatch, code):
    body = f"print('convoy: a sentence.') if i else 0; sys.exit({code}) if i else time.sleep(600)"
    record, _ = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, code, 0)
    assert record.reason == f"worker 1 ended with exit code {code}: a sentence"


@pytest.mark.parametrize(
    ("death", "code"), [("sys.exit(42)", 42), ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("os.abort()", 134)]
)
def test_another_end_starts_all_workers_again(monkeypatch, death, code):
    body = f"if a < 2:\n    if i == a:\n        {death}\n    time.sleep(600)\nprint('again')"
    told, tell = [], Rehearsal._tell
    monkeypatch.setattr(
        Rehearsal, "_tell", lambda self, *args, **named: (told.extend(args), tell(self, *args, **named))
    )
    record, folder = rehearse(monkeypatch, body, "--max_restarts=2")
    assert (record.phase, record.restarts, record.reason) == (SUCCEEDED, 2, "")
    assert folder.last_attempt(0) == folder.last_attempt(1) == 2
    assert f"worker 1 ended with exit code {code}" in told


def test_restarts_end(monkeypatch):
    record, folder = rehearse(monkeypatch, "sys.exit(42)", "--max_restarts=2")
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, 42, 2)
    assert record.reason.startswith("no restart is left of 2; worker ")
    assert folder.last_attempt(0) == 2


def test_an_indexed_job_is_not_restarted(monkeypatch):
    record, _ = rehearse(monkeypatch, "sys.exit(42)", "--gang=indexed")
    assert (record.phase, record.exit_code, record.restarts) == (FAILED, 42, 0)


def test_the_others_have_the_grace_to_save(monkeypatch):
    body = """signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(42)))
meet()
if i == 0: sys.exit(70)
time.sleep(600)"""
    record, folder = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code) == (FAILED, 70)
    assert folder.log(1, 0).read_text() == "saved\n"


def test_after_the_grace_they_are_killed(monkeypatch):
    monkeypatch.setattr(manifest, "GRACE_SECONDS", 0.2)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nmeet()\nif i == 0: sys.exit(70)\ntime.sleep(600)"
    record, _ = rehearse(monkeypatch, body)
    assert (record.phase, record.exit_code) == (FAILED, 70)


def test_an_attempt_has_its_hours(monkeypatch):
    record, _ = rehearse(monkeypatch, "time.sleep(600)", "--hours=0.0001")
    assert (record.phase, record.restarts, record.reason) == (FAILED, 0, "not finished within --hours=0.0001")


def test_what_never_heals_decides_when_several_end_together(monkeypatch):
    # Both have ended before the first look.
    monkeypatch.setattr(rehearsal, "_free_ports", lambda count: list(range(count)))
    start = Rehearsal._start

    def start_and_wait(self, attempt):
        start(self, attempt)
        for process in self.workers:
            process.wait()

    monkeypatch.setattr(Rehearsal, "_start", start_and_wait)
    record, _ = rehearse(monkeypatch, "sys.exit(78 if i else 42)")
    assert (record.phase, record.exit_code) == (FAILED, 78)


def test_faults_are_of_the_first_attempt_and_the_shells_own_variables_of_none(monkeypatch):
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


def test_the_policy_is_that_of_the_manifests():
    for name in ("jobset/jobset.yaml", "indexed/job.yaml"):
        rules = [rule for rule in job_spec(base(name))["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
        assert [(rule["action"], rule["onExitCodes"]["operator"]) for rule in rules] == [("FailJob", "NotIn")]
        again = set(rules[0]["onExitCodes"]["values"])
        assert {code for code in range(1, 256) if rehearsal.may_try_again(code)} == again


def test_a_worker_runs_what_a_pod_runs():
    spec = job("--image=ref@sha256:0", run=("--seed=7", "--model=a.b:c"))
    *_, rendered = manifest.render(spec)
    (container,) = job_spec(rendered)["template"]["spec"]["containers"]
    assert rehearsal.command(spec)[1:] == container["command"][1:]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    for index, own in enumerate(rehearsal.environments(spec, 3, [4001, 4002], faults.parse("", 2))):
        # Kubernetes adds the index; the attempt comes from a label of the pod.
        assert own.pop("JOB_COMPLETION_INDEX") == str(index)
        assert own.pop("CONVOY_RESTART_ATTEMPT") == "3"
        assert own.pop("CONVOY_HOSTS") == "127.0.0.1:4001,127.0.0.1:4002"
        assert own == {name: variables[name] for name in own}
        assert {name for name in variables if name.startswith("CONVOY_")} - {"CONVOY_WRITER"} == {
            *own,
            "CONVOY_HOSTS",
            "CONVOY_RESTART_ATTEMPT",
        }


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("kill:worker-2@step=4", exits.CannotRun, "there is no worker 2 of 2"),
        ("kill:worker-1@step=4,term:worker-1@step=8", exits.CannotRun, "can end only once"),
        ("kill:worker-1", exits.UsageError, "`kill:worker-1` is none of"),
        ("kill:worker-1@step=-4", exits.UsageError, "is none of"),
        ("dns:worker-1@step=4", exits.UsageError, "is none of"),
    ],
)
def test_faults_that_cannot_be(text, error, sentence):
    with pytest.raises(error, match=sentence):
        LocalTarget(text).submit(job())
    assert LocalTarget().jobs() == []


def test_an_only_worker_has_no_name_to_lose():
    with pytest.raises(exits.CannotRun, match="--workers=2"):
        LocalTarget("dns:worker-0").submit(job(workers=1))


def test_a_dry_run_shows_the_processes_and_touches_nothing(tmp_path):
    text = LocalTarget("kill:worker-1@step=40").describe(job(run=("--model=a.b:c",)))
    first, second = text.splitlines()[1:]
    assert "JOB_COMPLETION_INDEX=0" in first
    assert "CONVOY_CHAOS" not in first
    assert "CONVOY_CHAOS=kill:between@40" in second
    assert second.endswith("-P -m launch.worker -- --run_dir=run --model=a.b:c")
    assert list(tmp_path.iterdir()) == []


# --- The verbs, on real workers that wait for each other's names: all of a job but its run ---

WAITING = "dns:worker-0,dns:worker-1"


@pytest.fixture
def waiting(monkeypatch) -> JobState:
    """A job that goes on until it is cancelled."""
    monkeypatch.setenv("CONVOY_DNS_SECONDS", "600")
    LocalTarget(WAITING).submit(job())
    return until("try", lambda state, folder: state.phase == RUNNING and words(folder, 0) and words(folder, 1))


def words(folder: JobFolder, worker: int, attempt: int = 0) -> str:
    log = folder.log(worker, attempt)
    return log.read_text() if log.exists() else ""


def until(name: str, what) -> JobState:
    deadline = time.monotonic() + 300
    while not what(state := LocalTarget().state(name), JobFolder(name)):
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
    return state


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False


def test_the_same_job_again_changes_nothing_and_another_one_is_refused(waiting, tmp_path, monkeypatch):
    pids = JobFolder("try").read().workers
    assert LocalTarget().submit(job()) == LocalTarget().submit(job(), replace=True) == waiting
    for other in (job(run=("--seed=1",)), job(workers=1)):
        with pytest.raises(exits.CannotRun, match="--name=try is another job, which is running; give --replace"):
            LocalTarget().submit(other)
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


def test_looked_after_from_other_processes_until_it_is_cancelled(waiting, convoy, tmp_path):
    with pytest.raises(exits.CannotRun, match="try is running; `convoy launch cancel --name=try` ends it"):
        LocalTarget().remove("try")
    assert waiting.run_dir == str(tmp_path / "run")
    follower = subprocess.Popen(
        command("launch", "logs", "--name=try", "--worker=1", "--follow"), stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "convoy: worker 1 of 2 of job try.\n"
    assert "try: running" in convoy("launch", "list").out
    cancelled = convoy("launch", "cancel", "--name=try")
    assert cancelled.code == 0
    assert "try: cancelled, asked to leave by SIGTERM before the run began" in cancelled.out
    out, _ = follower.communicate(timeout=60)
    assert out == "convoy: asked to leave by SIGTERM before the run began.\n"
    assert follower.returncode == 0
    assert convoy("launch", "wait", "--name=try").code == 130
    assert LocalTarget().cancel("try").phase == CANCELLED
    assert "try: removed" in convoy("launch", "gc").out
    assert LocalTarget().jobs() == []
    with pytest.raises(exits.CannotRun, match="there is no job try on this machine"):
        LocalTarget().state("try")


def test_a_supervisor_that_dies_is_noticed_and_its_workers_leave(waiting, monkeypatch):
    record = JobFolder("try").read()
    os.kill(record.supervisor, signal.SIGKILL)
    state = until("try", lambda state, _: state.phase in ENDS)
    assert (state.phase, state.exit_code) == (FAILED, 42)
    assert f"its supervising process {record.supervisor} was killed" in state.reason
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


def test_a_users_error_is_not_tried_again_and_keeps_its_code(convoy):
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


@pytest.mark.parametrize("worker", [-1, 2])
def test_a_log_of_a_worker_that_there_is_not(waiting, worker):
    with pytest.raises(exits.CannotRun, match=f"--worker={worker} is none of the 2 of try"):
        list(LocalTarget().logs("try", worker, follow=False))


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "A", "x" * 41])
def test_a_name_is_no_path(name):
    for method in (LocalTarget().state, LocalTarget().cancel, LocalTarget().remove):
        with pytest.raises(exits.CannotRun, match="--name"):
            method(name)


def test_a_state_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(exits.CannotRun, match="cannot write .*file.*; set XDG_STATE_HOME"):
        LocalTarget().submit(job())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_logs_follow_a_job_into_its_next_attempt(monkeypatch):
    folder = JobFolder("try")
    lock = folder.create(about(job(), ""), Record(RUNNING))
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


# --- Whole jobs ---


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """backend, workers -> an undisturbed run of that many processes, started by hand; other tests' too."""

    def get(backend: str, workers: int) -> Path:
        name = f"whole-{backend}" + (f"-{workers}" if workers != 2 else "")
        flags = [*QUICK, "--run_dir=run"] + (["--batch_size=63"] if workers == 3 else [])
        return once(tmp_path_factory, name, lambda place: run_workers(place, backend, workers, *flags)) / "run"

    return get


@pytest.mark.parametrize(
    ("backend", "workers", "chaos"),
    [
        ("tensorflow", 2, "kill:worker-1@step=40"),
        pytest.param("jax", 2, "kill:worker-0@step=40", marks=THOROUGH),
        pytest.param("tensorflow", 2, "term:worker-1@step=40", marks=THOROUGH),
        pytest.param("jax", 2, "term:worker-0@step=30,dns:worker-1", marks=THOROUGH),
        pytest.param("jax", 2, "term:worker-1@step=30", marks=THOROUGH),
        pytest.param("tensorflow", 3, "kill:worker-2@step=40", marks=THOROUGH),
        pytest.param("jax", 3, "term:worker-2@step=40", marks=THOROUGH),
    ],
)
def test_a_disturbed_job_recovers_and_ends_with_the_bits_of_an_undisturbed_run(
    convoy, whole, tmp_path, backend, workers, chaos
):
    flags = [*QUICK, *(["--batch_size=63"] if workers == 3 else []), f"--backend={backend}", "--run_dir=cut"]
    submit = ["launch", "submit", "--name=cut", f"--workers={workers}", "--wait"]
    outcome = subprocess.run(
        command(*submit, f"--chaos={chaos}", "--", *flags), capture_output=True, text=True, timeout=500, check=False
    )
    assert outcome.returncode == 0, outcome
    assert "cut: succeeded, 1 restart" in outcome.stdout
    assert_same_bits(tmp_path / "cut", whole(backend, workers))
    assert records_of(tmp_path / "cut") == records_of(whole(backend, workers))
    if "dns" not in chaos:  # then it began before the fault
        assert "restored" in [event["event"] for event in events_of(tmp_path / "cut")]
        assert result_of(tmp_path / "cut")["attempts"] == 2
    assert result_of(tmp_path / "cut")["processes"] == workers
    status = convoy("launch", "status", "--name=cut")
    assert "step       60 of 60" in status.out
    # A job that has succeeded is not begun again.
    assert convoy(*submit, "--", *flags).code == 0
    assert JobFolder("cut").last_attempt(0) == 1


@pytest.mark.parametrize(
    ("workers", "number"),
    [pytest.param(2, signal.SIGKILL, marks=THOROUGH), pytest.param(2, signal.SIGTERM, marks=THOROUGH)],
)
def test_a_worker_that_is_ended_from_outside(whole, tmp_path, workers, number):
    spec = job(workers=workers, run=(*QUICK, "--steps_per_loop=1"))
    LocalTarget().submit(spec)
    run_dir = tmp_path / "run"
    until("try", lambda *_: (run_dir / "events.jsonl").exists() and "training" in str(events_of(run_dir)))
    os.kill(JobFolder("try").read().workers[1], number)
    state = until("try", lambda state, _: state.phase in ENDS)
    assert (state.phase, state.restarts) == (SUCCEEDED, 1)
    assert_same_bits(run_dir, whole("tensorflow", workers))


def test_a_job_that_is_cancelled_saves_its_run(tmp_path, convoy):
    long = ("--dataset=digits", "--batch_size=64", "--duration=100000st", "--eval_every=50000st",
            "--checkpoint_every=50000st")  # fmt: skip
    spec = job(workers=1, run=long)
    LocalTarget().submit(spec)
    run_dir = tmp_path / "run"
    until(
        "try", lambda *_: (run_dir / "status.json").exists() and '"training"' in (run_dir / "status.json").read_text()
    )
    status = convoy("launch", "status", "--name=try").out
    assert "of 100,000" in status
    state = LocalTarget().cancel("try")
    assert state.phase == CANCELLED
    last = events_of(run_dir)[-1]
    assert last["event"] == "left"
    assert f"saved at step {last['step']}" in state.reason
    assert (run_dir / "checkpoints" / f"{last['step']:08d}.1" / "MANIFEST.json").exists()
    text = (run_dir / "status.json").read_text()
    assert '"phase": "left"' in text
    assert '"exit_code": 42' in text
