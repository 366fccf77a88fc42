"""Other machines reach no port of a rehearsal, or of processes that share a run on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from convoy.launch.targets.base import CANCELLED, ENDS, RUNNING
from convoy.launch.targets.local import network as private
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.target import LocalTarget
from convoy.trainer.processes import cluster
from listeners import addresses, family, interfaces, is_loopback, network
from local_jobs import job, until, words
from support import REPOSITORY, environment, start_workers

LONG = (
    "--dataset=digits",
    "--batch_size=64",
    "--duration=100000st",
    "--eval_every=50000st",
    "--checkpoint_every=50000st",
    "--noreport",
)
WAITING = "dns:worker-0,dns:worker-1"


@pytest.fixture
def namespaces() -> None:
    if refused := private.refused():
        pytest.skip(refused)


def assert_apart(name: str) -> None:
    """Asserts that all processes of a job share one network without a way out, which is not this process's."""
    record = JobFolder(name).read()
    processes = {record.supervisor, *(process for worker in record.workers for process in family(worker))}
    assert {interface for process in processes for interface in interfaces(process)} == {"lo"}
    (theirs,) = set(map(network, processes))
    assert theirs != network()


def test_workers_of_a_rehearsal_have_a_network_that_no_other_machine_reaches(
    state_directory, namespaces, monkeypatch, capsys
):
    monkeypatch.setenv("CONVOY_DNS_SECONDS", "600")
    LocalTarget(WAITING).submit(job())
    until("try", lambda state, folder: state.phase == RUNNING and words(folder, 0) and words(folder, 1))
    assert_apart("try")
    # Signals reach them, and what they write is this user's.
    os.kill(JobFolder("try").read().workers[0], 0)
    assert JobFolder("try").log(0, 0).stat().st_uid == os.geteuid()
    assert LocalTarget().cancel("try").phase == CANCELLED
    assert capsys.readouterr().err == ""


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_workers_that_train_listen_in_that_network(state_directory, namespaces, backend):
    LocalTarget().submit(job(run=(*LONG, f"--backend={backend}")))
    until("try", lambda state, _: state.phase in (RUNNING, *ENDS))
    deadline = time.monotonic() + 120
    while not all(any(map(addresses, family(worker))) for worker in JobFolder("try").read().workers):
        assert LocalTarget().state("try").phase == RUNNING, LocalTarget().state("try")
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert_apart("try")


@pytest.mark.thorough
def test_processes_of_jax_on_one_host_listen_on_loopback_only(tmp_path):
    """Started by hand, in no network of their own: the coordinator, and the collectives of each."""
    workers = start_workers(tmp_path, "jax", 2, *LONG, "--run_dir=run")
    try:
        deadline = time.monotonic() + 120
        events = tmp_path / "run" / "events.jsonl"
        while not (events.exists() and '"training"' in events.read_text()):
            assert all(worker.poll() is None for worker in workers), [worker.communicate() for worker in workers]
            assert time.monotonic() < deadline
            time.sleep(0.3)
        listening = [{address for member in family(worker.pid) for address in addresses(member)} for worker in workers]
    finally:
        for worker in workers:
            worker.kill()  # its child follows
            worker.communicate()
    assert all(listening), "a peer has to reach each"
    assert all(map(is_loopback, set.union(*listening))), listening


@pytest.mark.parametrize(
    ("address", "own", "bind"),
    [
        ("127.0.0.1:2222", "", "127.0.0.1:2222"),
        ("[::1]:2222", "", "[::1]:2222"),
        ("localhost:2222", "", "localhost:2222"),
        ("rn50-workers-0-0.rn50:2222", "", ""),  # a pod's peers have to reach it
        ("10.0.0.5:2222", "", ""),
        ("127.0.0.1:2222", "0.0.0.0:2222", "0.0.0.0:2222"),  # JAX's own variable comes first
    ],
)
def test_the_address_of_a_coordinator(address, own, bind):
    variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0",
                 "JAX_COORDINATOR_BIND_ADDRESS": own}  # fmt: skip
    assert cluster.from_environment("jax", variables).bind == bind


def test_a_rehearsal_that_needs_the_network_keeps_it_and_says_who_reaches_it(state_directory, monkeypatch, capsys):
    monkeypatch.setenv("CONVOY_DNS_SECONDS", "600")
    LocalTarget(WAITING).submit(job(run=("--dataset=cifar10",)))
    assert capsys.readouterr().err == (
        "convoy: the network reaches the ports of try's workers, on all addresses of this machine: they have no network of"
        " their own, since --dataset=cifar10 may have to be downloaded.\n"
    )
    state = until("try", lambda state, _: state.phase == RUNNING)
    assert network(JobFolder("try").read().supervisor) == network(), state


@pytest.mark.parametrize(
    ("run", "variables", "why"),
    [
        ((), {}, ""),
        (("--dataset=folder:photographs", "--model=resnet18"), {}, ""),
        (("--dataset=records:packed",), {}, ""),
        (("--dataset=synthetic:8x8x3:2:64",), {}, ""),
        (("--dataset=mnist",), {}, "--dataset=mnist may have to be downloaded"),
        (("--dataset=records:gs://bucket/packed",), {}, "--dataset=records:gs://bucket/packed is reached over one"),
        (("--run_dir=gs://bucket/run",), {}, "--run_dir=gs://bucket/run is reached over one"),
        (("--model=mine:build",), {}, "--model=mine:build may download weights"),
        ((), {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}, "STORAGE_EMULATOR_HOST names a server"),
        ((), {"JAX_COMPILATION_CACHE_DIR": "gs://bucket/cache"}, "JAX_COMPILATION_CACHE_DIR is reached over one"),
    ],
)
def test_which_runs_need_the_network(run, variables, why):
    assert private.needs_network(job(run=run), variables) == why


def test_a_refusal_of_network_namespaces_is_told_in_a_sentence(monkeypatch):
    def refuse(flags):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(private, "_unshare", refuse)
    own, sentence = private.decide(job(), {})
    assert not own
    assert sentence.endswith("no network of their own, since the kernel refuses one (operation not permitted).")
    assert private.decide(job(run=("--backend=jax",)), {}) == (False, "")  # listens on loopback
    assert private.decide(job(workers=1), {}) == (False, "")  # listens on nothing


_INSIDE = """
import ctypes, encodings.idna, os, pathlib, socket, subprocess, sys
from convoy.launch.targets.local import network as private
if user := int(sys.argv[1]):
    os.setgroups([]), os.setgid(user), os.setuid(user)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as if started as that user
private.enter()
server = socket.create_server(("", 0))
with socket.create_connection(("127.0.0.1", server.getsockname()[1])): pass
with socket.create_server((socket.gethostbyname(socket.gethostname()), 0)): pass
pathlib.Path("written").write_text("")
assert os.stat("written").st_uid == os.geteuid() and os.stat("written").st_gid == os.getegid()
subprocess.run(["/bin/sh", "-c", ": > by-a-child"], check=True)
print("inside", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("user", [0, 65534], ids=["as it is started", "without rights"])
def test_within_a_network_of_its_own_a_process_works_as_before(tmp_path, namespaces, user):
    if user and os.geteuid():
        pytest.skip("only root starts processes of another user")
    (tmp_path / "place").mkdir()
    if user:
        os.chown(tmp_path / "place", user, user)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _INSIDE, str(user)], cwd=tmp_path / "place", text=True,
        env=environment(PYTHONPATH=str(REPOSITORY)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    if process.stdout.readline() != "inside\n":
        error = process.communicate()[1]
        if user and "in enter" in error:
            pytest.skip(f"users without rights get no namespace here: {error.splitlines()[-1]}")
        pytest.fail(error)
    assert addresses(process.pid) == {"0.0.0.0"}
    assert network(process.pid) != network()
    assert interfaces(process.pid) == {"lo"}
    for name in ("written", "by-a-child"):
        assert (tmp_path / "place" / name).stat().st_uid == (user or os.geteuid())
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
