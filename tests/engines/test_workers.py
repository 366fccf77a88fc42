"""Several processes: what happens to the others when one dies, is asked to leave, never comes, or is told no."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metadata import PREEMPTED, metadata_server
from support import (
    QUICK,
    Outcome,
    assert_same_bits,
    cluster_variables,
    command,
    environment,
    events_of,
    once,
    run_workers,
    start_workers,
)

BACKENDS = ["tensorflow", "jax"]
THOROUGH = pytest.mark.thorough
# Steps that no test waits for the end of.
LONG = ["--dataset=digits", "--batch_size=64", "--duration=100000st", "--eval_every=50000st", "--checkpoint_every=50000st",
        "--hang_timeout=20", "--run_dir=run", "--noreport"]  # fmt: skip


def wait_until(condition: Callable[[], bool], what: str, *workers: subprocess.Popen[str]) -> None:
    """Waits while all workers live."""
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        assert all(worker.poll() is None for worker in workers), [worker.communicate() for worker in workers]
        time.sleep(0.05)


def wait_for_event(run_dir: Path, name: str, workers: list[subprocess.Popen[str]]) -> None:
    def happened() -> bool:
        return (run_dir / "events.jsonl").exists() and name in [event["event"] for event in events_of(run_dir)]

    wait_until(happened, f"the event {name}", *workers)


def wait_until_idle(process: subprocess.Popen[str]) -> None:
    """Until the children of a process use no time of a core between two looks: they wait."""
    looks: list[list[str]] = []

    def idle() -> bool:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in children(process)]
        looks.append([fields[11] + fields[12] for fields in stats])
        return len(looks) > 4 and looks[-4:] == looks[-1:] * 4

    wait_until(idle, "an idle process", process)


def children(process: subprocess.Popen[str]) -> list[int]:
    out = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in out.split()]


def end(process: subprocess.Popen[str], timeout: float) -> Outcome:
    out, err = process.communicate(timeout=timeout)
    return Outcome(subprocess.CompletedProcess([], process.returncode, out, err))


@pytest.fixture
def lonely(tmp_path):
    """lonely(backend, flags, ...) -> a worker that waits for a peer that never comes, in a wait that no handler interrupts."""

    def start(backend: str, *argv: object) -> subprocess.Popen[str]:
        # The first one: both engines have it open a port and wait there.
        variables, _ = cluster_variables(backend, 2)
        worker = subprocess.Popen(
            command("train", f"--backend={backend}", *LONG, *argv),
            cwd=tmp_path,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        address = variables.get("JAX_COORDINATOR_ADDRESS") or json.loads(variables["TF_CONFIG"])["cluster"]["worker"][0]
        wait_until(lambda: listening(int(address.rpartition(":")[2])), "its port", worker)
        return worker

    return start


def listening(port: int) -> bool:
    """Whether any process of this machine does; asked of the kernel, so that the port's owner never hears of it."""
    lines = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()]
    return any(line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port for line in lines[1:] if line[0] != "sl")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_that_waits_for_a_peer_that_never_comes_can_be_stopped(tmp_path, lonely, backend):
    worker = lonely(backend, "--hang_timeout=120")
    wait_until_idle(worker)
    worker.terminate()
    assert end(worker, 10).code == 42
    assert not (tmp_path / "run" / "events.jsonl").exists()


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=THOROUGH)])
def test_a_worker_whose_port_is_taken_may_be_tried_again(tmp_path, backend):
    variables, _ = cluster_variables(backend, 2)
    address = variables.get("JAX_COORDINATOR_ADDRESS") or json.loads(variables["TF_CONFIG"])["cluster"]["worker"][0]
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        done = subprocess.run(
            command("train", f"--backend={backend}", *LONG), cwd=tmp_path, env=environment(**variables),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 42, done.stderr
    # JAX raises an error there, or crashes.
    assert "its port may be taken" in done.stderr or (backend == "jax" and "SIGSEGV" in done.stderr)


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=THOROUGH)])
def test_a_worker_gives_a_peer_up_that_never_comes(lonely, backend):
    outcome = end(lonely(backend, "--hang_timeout=4"), 60)
    assert outcome.code == 42
    sentence, _, dump = outcome.err.partition("Where its threads are:\n")
    assert "--hang_timeout=4" in sentence
    assert "trainer/engines" in dump


@THOROUGH
@pytest.mark.parametrize("backend", BACKENDS)
def test_when_one_is_stuck_both_may_be_tried_again(tmp_path, backend):
    workers = start_workers(tmp_path, backend, 2, *LONG, "--hang_timeout=10")
    wait_for_event(tmp_path / "run", "training", workers)
    status = tmp_path / "run" / "status.json"
    wait_until(lambda: json.loads(status.read_text())["step"] > 0, "a step", *workers)
    for pid in children(workers[1]):
        os.kill(pid, signal.SIGSTOP)
    waiting, stuck = [end(worker, 60) for worker in workers]
    assert waiting.code == stuck.code == 42, (waiting, stuck)
    assert "no sign of life" in stuck.err


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Callable[[str], Path]:
    """backend -> an undisturbed run of two processes."""

    def get(backend: str) -> Path:
        return once(
            tmp_path_factory,
            f"whole-{backend}",
            lambda place: run_workers(place, backend, 2, *QUICK, "--run_dir=run"),
        )

    return get


@pytest.mark.parametrize(
    ("backend", "victim"),
    [
        # TensorFlow's other one is killed in tests/launch/local/test_rehearsed_runs.py.
        pytest.param("tensorflow", 0, marks=THOROUGH),
        pytest.param("tensorflow", 1, marks=THOROUGH),
        pytest.param("jax", 0, marks=THOROUGH),
        ("jax", 1),
    ],
)
def test_when_one_is_killed_the_other_ends_too_and_the_run_goes_on_with_the_same_bits(tmp_path, whole, backend, victim):
    # The other one is asked to save, which both then do, as well.
    faults = {victim: {"CONVOY_CHAOS": "kill:between@28"}, 1 - victim: {"CONVOY_CHAOS": "usr1:between@4"}}
    workers = start_workers(tmp_path, backend, 2, *QUICK, "--run_dir=cut", "--steps_per_loop=4", own=faults)
    # Most are told at once, the others when they hear nothing.
    ends = [end(worker, 150) for worker in workers]
    assert [one.code for one in ends] == [42, 42], ends
    assert "SIGKILL" in ends[victim].err
    assert "most recent call first" in ends[1 - victim].err, "where its threads were"
    saved = [event["step"] for event in events_of(tmp_path / "cut") if event["event"] == "saved"]
    assert any(step % 20 for step in saved)
    run_workers(tmp_path, backend, 2, *QUICK, "--run_dir=cut")
    assert [event["step"] for event in events_of(tmp_path / "cut") if event["event"] == "restored"] == [20]
    assert_same_bits(tmp_path / "cut", whole(backend) / "run")


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=THOROUGH)])
def test_when_one_is_asked_to_leave_all_save_and_the_run_goes_on_with_the_same_bits(tmp_path, whole, backend):
    workers = start_workers(tmp_path, backend, 2, *QUICK, "--run_dir=cut", "--steps_per_loop=4")
    wait_for_event(tmp_path / "cut", "training", workers)
    workers[1].terminate()
    assert [end(worker, 60).code for worker in workers] == [42, 42]
    assert events_of(tmp_path / "cut")[-1]["event"] == "left"
    run_workers(tmp_path, backend, 2, *QUICK, "--run_dir=cut")
    assert_same_bits(tmp_path / "cut", whole(backend) / "run")


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS)
def test_when_one_machine_gets_a_notice_all_save_the_same_step(tmp_path, backend):
    with metadata_server() as server:
        noticed_by = {1: {"GCE_METADATA_HOST": server.address}}
        workers = start_workers(tmp_path, backend, 2, *LONG, own=noticed_by)
        wait_for_event(tmp_path / "run", "training", workers)
        server.announce(PREEMPTED, "TRUE")
        leading, noticed = [end(worker, 60) for worker in workers]
    assert leading.code == noticed.code == 42, (leading, noticed)
    last = events_of(tmp_path / "run")[-1]
    assert last["event"] == "left"
    saved = f"saved at step {last['step']}."
    assert f"asked to leave by another process of the run, {saved}" in leading.err
    assert f"asked to leave by the metadata server (instance/preempted=TRUE), {saved}" in noticed.err
    assert (tmp_path / "run" / "checkpoints" / f"{last['step']:08d}.1" / "MANIFEST.json").exists()


def test_what_the_leading_process_refuses_all_refuse(tmp_path, whole):
    shutil.copytree(whole("tensorflow"), tmp_path, dirs_exist_ok=True)
    _, follower = run_workers(tmp_path, "tensorflow", 2, *QUICK, "--run_dir=run", "--learning_rate=0.5", code=78)
    assert "the leading process said" in follower.err
    assert "--learning_rate=0.5, but the run was begun" in follower.err
