"""Whole jobs on this machine: disturbed, they end with the bits of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from convoy.launch import watch
from convoy.launch.cli import LAUNCH
from convoy.launch.targets.base import CANCELLED, ENDS, SUCCEEDED
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.target import LocalTarget
from local_jobs import job, until
from support import QUICK, assert_same_bits, command, events_of, once, records_of, result_of, run_workers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("state_directory")]
THOROUGH = pytest.mark.thorough


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
    whole, tmp_path, capsys, backend, workers, chaos
):
    flags = [*QUICK, *(["--batch_size=63"] if workers == 3 else []), f"--backend={backend}", "--run_dir=cut"]
    submit = ["launch", "submit", "--target=local", f"--workers={workers}", "--wait"]  # called as its run directory
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
    assert watch.status(["--name=cut"]) == 0
    assert "step       60 of 60" in capsys.readouterr().out
    # A job that has succeeded is not begun again.
    assert LAUNCH([*submit[1:], "--", *flags]) == 0
    assert JobFolder("cut").last_attempt(0) == 1


@pytest.mark.parametrize(
    ("workers", "number"),
    [pytest.param(2, number, marks=THOROUGH) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)],
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


def test_a_job_that_is_cancelled_saves_its_run(tmp_path, capsys):
    long = ("--dataset=digits", "--batch_size=64", "--duration=100000st", "--eval_every=50000st",
            "--checkpoint_every=50000st")  # fmt: skip
    spec = job(workers=1, run=long)
    LocalTarget().submit(spec)
    run_dir = tmp_path / "run"
    until(
        "try", lambda *_: (run_dir / "status.json").exists() and '"training"' in (run_dir / "status.json").read_text()
    )
    assert watch.status(["--name=try"]) == 0
    assert "of 100,000" in capsys.readouterr().out
    # A warning before a time limit: it saves, and the job goes on.
    os.kill(JobFolder("try").read().workers[0], signal.SIGUSR1)
    until("try", lambda *_: "saved" in [event["event"] for event in events_of(run_dir)])
    state = LocalTarget().cancel("try")
    assert state.phase == CANCELLED
    last = events_of(run_dir)[-1]
    assert last["event"] == "left"
    assert f"saved at step {last['step']}" in state.reason
    assert (run_dir / "checkpoints" / f"{last['step']:08d}.1" / "MANIFEST.json").exists()
    text = (run_dir / "status.json").read_text()
    assert '"phase": "left"' in text
    assert '"exit_code": 42' in text
