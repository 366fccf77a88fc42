"""Whole runs under a real Slurm: disturbed as clusters do it, they end with the bits of a run that was left alone.

CONVOY_SLURM_RECORD=1 writes how each ended to benchmarks/results/slurm.csv.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

import pytest

import slurm_jobs
from convoy.launch.targets.base import CANCELLED, FAILED, RESTARTING, RUNNING, SUCCEEDED
from convoy.launch.targets.slurm.folder import SlurmFolder
from slurm_jobs import log, number, until
from support import QUICK, assert_same_bits, events_of, once, records_of, run_workers

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
# Long enough to be disturbed.
RUN = [*QUICK, "--duration=2000st", "--checkpoint_every=100st", "--eval_every=1000st"]
ENDLESS = [*QUICK, "--duration=100000ep", "--checkpoint_every=100st", "--eval_every=100000ep"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """backend -> an undisturbed run of two processes, started by hand."""

    def get(backend: str) -> Path:
        flags = [*RUN, "--run_dir=run"]
        return once(tmp_path_factory, f"slurm-{backend}", lambda place: run_workers(place, backend, 2, *flags)) / "run"

    return get


@pytest.fixture
def record(slurm, request):
    """record(backend=..., nodes=..., restarts=..., end=...) -> a row of the results, if they are asked for."""
    begun = time.monotonic()
    version = slurm.run("sinfo", "--version").split()[-1]
    return functools.partial(slurm_jobs.record, version, request.node.originalname, begun)


def steps(run_dir: Path, event: str) -> list[int]:
    """The steps at which a run did something."""
    return [line["step"] for line in events_of(run_dir) if line["event"] == event] if run_dir.exists() else []


def trainers(slurm) -> list[int]:
    """The processes of the cluster that train."""
    pids = []
    for pid in slurm.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"convoy.trainer.run" in words:
            pids.append(pid)
    return pids


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_run_killed_by_scontrol_and_at_its_time_limit_ends_with_the_bits_of_an_undisturbed_one(
    slurm, target, trained, tmp_path, whole, record, backend
):
    undisturbed = whole(backend)
    flags = ("--workers=2", "--hours=0.016", "--save_before=20")
    spec = trained(*flags, run=[*RUN, f"--backend={backend}"])
    target.submit(spec)
    run_dir = tmp_path / "job"
    slurm.until(lambda: (run_dir / "events.jsonl").exists() and steps(run_dir, "saved"), 120)
    slurm.run("scontrol", "requeue", number("job"))
    until(target, "job", RESTARTING)
    # The second start stands still until Slurm warns of its limit: the warning comes with SIGCONT.
    until(target, "job", lambda state: state.restarts == 1 and state.phase == RUNNING)
    slurm.until(lambda: "restored" in log("job", 0, 1) or len(steps(run_dir, "training")) == 2, 120)
    stopped = trainers(slurm)
    assert len(stopped) == 2
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    until(target, "job", lambda state: state.restarts == 2)
    assert "asked to leave by SIGTERM, saved at step" in log("job", 0, 1)
    end = until(target, "job")
    assert (end.phase, end.restarts, end.exit_code) == (SUCCEEDED, 2, 0)
    assert_same_bits(run_dir, undisturbed)
    assert records_of(run_dir) == records_of(undisturbed)
    record(backend=backend, nodes=2, restarts=end.restarts, end="equal bit for bit")


def test_a_run_that_lost_a_node_ends_with_the_bits_of_an_undisturbed_one(
    slurm, target, trained, tmp_path, whole, record
):
    undisturbed = whole("jax")
    target.submit(trained("--workers=2", run=[*RUN, "--backend=jax"]))
    run_dir = tmp_path / "job"
    slurm.until(lambda: (run_dir / "events.jsonl").exists() and steps(run_dir, "saved"), 120)
    slurm.lose("n2")
    until(target, "job", RESTARTING, 120)
    slurm.until(lambda: "down" in slurm.run("sinfo", "-h", "-n", "n2", "-o", "%T"), 60)
    slurm.slurmd("n2")
    end = until(target, "job")
    assert (end.phase, end.exit_code) == (SUCCEEDED, 0)
    assert end.restarts > 0
    assert_same_bits(run_dir, undisturbed)
    record(backend="jax", nodes=2, restarts=end.restarts, end="equal bit for bit")


def test_of_two_copies_of_a_run_the_second_is_refused(slurm, target, trained, tmp_path, record):
    """Only the daemon of the first node dies: Slurm starts the job elsewhere, beside the copy that lives on."""
    target.submit(trained("--cpus=5", "--max_restarts=1", run=[*ENDLESS, "--backend=jax"]))
    run_dir = tmp_path / "job"
    slurm.until(lambda: (run_dir / "events.jsonl").exists() and steps(run_dir, "saved"), 120)
    (first,) = trainers(slurm)
    node = slurm.job(number("job"))["NodeList"]
    os.kill(slurm.pid(f"slurmd-{node}"), signal.SIGKILL)
    try:
        end = until(target, "job")
        assert slurm.job(number("job"))["NodeList"] != node
        assert end.phase == FAILED
        assert "another process is training there now" in log("job", 0, 1)
        before = len(steps(run_dir, "saved"))
        slurm.until(lambda: len(steps(run_dir, "saved")) > before)
        assert trainers(slurm) == [first], "the first copy goes on, undisturbed"
        assert len(steps(run_dir, "training")) == 1
    finally:
        for pid in slurm.processes_of(node):
            os.kill(pid, signal.SIGKILL)
        slurm.slurmd(node)
    record(backend="jax", nodes=1, restarts=end.restarts, end="the second was refused")


def test_at_a_limit_that_came_without_a_warning_the_job_begins_again(slurm, target, planned, record):
    """The workers take no notice of the first SIGTERM, which is the warning."""
    deaf = "count=0; trap 'count=$((count + 1)); [ $count = 1 ] || exit 42' TERM; while :; do sleep 0.1; done"
    target.submit(planned(f"[ $attempt = 1 ] || {{ {deaf}; }}", "--hours=0.016", "--save_before=20", "--workers=2"))
    until(target, "job", lambda state: state.restarts == 1)
    end = until(target, "job")
    assert (end.phase, end.restarts) == (SUCCEEDED, 1)
    assert "and begins again" in (SlurmFolder("job").path / "slurm.log").read_text()
    record(backend="", nodes=2, restarts=1, end="begun again")


def test_a_run_that_is_cancelled_is_saved(slurm, target, trained, tmp_path, record):
    spec = trained("--workers=2", run=[*ENDLESS, "--backend=jax"])
    target.submit(spec)
    run_dir = tmp_path / "job"
    slurm.until(lambda: (run_dir / "events.jsonl").exists() and steps(run_dir, "saved"), 120)
    end = target.cancel("job")
    assert end.phase == CANCELLED
    assert "asked to leave by SIGTERM, saved at step" in end.reason
    last = steps(run_dir, "saved")[-1]
    assert f"saved at step {last}" in end.reason
    # Submitted again it goes on from there.
    target.submit(spec)
    slurm.until(lambda: steps(run_dir, "saved")[-1] > last, 120)
    assert target.cancel("job").phase == CANCELLED
    record(backend="jax", nodes=2, restarts=0, end="saved")
