"""A pod's first process: which worker it is, what its run is told of its peers, the wait for them, exit codes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from convoy import exits
from convoy.launch import worker
from convoy.launch.worker import WorkerIdentity, cluster_variables, from_environment, wait_for_names
from convoy.trainer.processes import cluster
from support import environment, hear_hangups

pytestmark = pytest.mark.slow  # processes

POD = {"CONVOY_JOB": "rn50", "CONVOY_WORKERS": "2", "CONVOY_HOSTS": "rn50-worker-0-0.rn50,rn50-worker-0-1.rn50",
       "CONVOY_PORT": "2222", "CONVOY_GRACE_SECONDS": "120", "JOB_COMPLETION_INDEX": "1",
       "CONVOY_RESTART_ATTEMPT": "3"}  # fmt: skip


def test_a_pods_environment_identifies_a_worker():
    place = from_environment(POD)
    assert (place.job, place.index, place.attempt) == ("rn50", 1, 3)
    assert place.hosts == ("rn50-worker-0-0.rn50:2222", "rn50-worker-0-1.rn50:2222")
    assert place.peers == ["rn50-worker-0-0.rn50"]
    assert place.dns_seconds == 300


def test_a_host_may_have_a_port_of_its_own():
    place = from_environment({**POD, "CONVOY_HOSTS": "127.0.0.1:4001,127.0.0.1:4002"})
    assert place.hosts == ("127.0.0.1:4001", "127.0.0.1:4002")
    assert place.peers == ["127.0.0.1"]


@pytest.mark.parametrize("own", [{}, {"CONVOY_WORKERS": "1", "CONVOY_HOSTS": "a.a", "JOB_COMPLETION_INDEX": "0"}])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_single_worker_has_no_cluster(own, backend):
    assert cluster_variables(from_environment(own), backend, {}) == {}


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"CONVOY_WORKERS": "three"}, "CONVOY_WORKERS=three is not a whole number"),
        ({"CONVOY_WORKERS": "3"}, "CONVOY_HOSTS names 2 hosts and CONVOY_WORKERS is 3"),
        ({"JOB_COMPLETION_INDEX": "2"}, "JOB_COMPLETION_INDEX=2 is not among CONVOY_WORKERS=2"),
        ({"JOB_COMPLETION_INDEX": "0.5"}, "JOB_COMPLETION_INDEX=0.5 is not a whole number"),
        ({"CONVOY_DNS_SECONDS": "nan"}, "CONVOY_DNS_SECONDS=nan is not a number of seconds"),
        ({"CONVOY_GRACE_SECONDS": "-1"}, "CONVOY_GRACE_SECONDS=-1 is not a number of seconds"),
    ],
)
def test_an_environment_that_names_no_worker_is_refused(own, sentence):
    with pytest.raises(exits.CannotRun, match=sentence):
        from_environment({**POD, **own})


def test_a_job_that_is_not_indexed_is_refused():
    pod = {name: value for name, value in POD.items() if name != "JOB_COMPLETION_INDEX"}
    with pytest.raises(exits.CannotRun, match="completionMode is Indexed"):
        from_environment(pod)


@pytest.mark.parametrize(("grace", "answer"), [(120, 115), (15, 10), (6, 3)])
def test_a_run_is_killed_before_its_pod_is(grace, answer):
    assert from_environment({**POD, "CONVOY_GRACE_SECONDS": str(grace)}).answer_seconds == answer


def test_tensorflow_gets_its_cluster_with_a_numeric_index():
    variables = cluster_variables(from_environment(POD), "tensorflow", {})
    config = json.loads(variables["TF_CONFIG"])
    assert config["cluster"]["worker"] == ["rn50-worker-0-0.rn50:2222", "rn50-worker-0-1.rn50:2222"]
    assert config["task"] == {"type": "worker", "index": 1}
    joined = cluster.from_environment("tensorflow", variables)
    assert (joined.index, joined.processes) == (1, 2)


def test_jax_gets_its_coordinator():
    joined = cluster.from_environment("jax", cluster_variables(from_environment(POD), "jax", {}))
    assert (joined.index, joined.processes, joined.coordinator) == (1, 2, "rn50-worker-0-0.rn50:2222")


def test_on_a_slice_of_tpus_jax_counts_as_libtpu_does():
    slice_ = {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "other-b,other-a"}
    variables = cluster_variables(from_environment(POD), "jax", slice_)
    assert not any(name.startswith("TPU_") for name in variables)
    joined = cluster.from_environment("jax", variables)
    assert (joined.index, joined.processes, joined.coordinator) == (0, 2, "other-b:2222")


@pytest.mark.parametrize("slice_", [("2", "a,b"), ("0", "a"), ("x", "a,b")])
def test_a_job_on_more_or_less_than_a_slice_is_refused(slice_):
    number, names = slice_
    with pytest.raises(exits.CannotRun, match="exactly one slice"):
        cluster_variables(from_environment(POD), "jax", {"TPU_WORKER_ID": number, "TPU_WORKER_HOSTNAMES": names})


def test_late_names_are_waited_for(monkeypatch):
    looks, lock = {"a": 0, "b": 0}, threading.Lock()

    def look(name, port):
        with lock:
            looks[name] += 1
            if looks[name] < 3 and name == "b":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(worker, "_FIRST_PAUSE_SECONDS", 0.01)
    wait_for_names(["a", "b"], 60)
    assert looks == {"a": 1, "b": 3}


def test_missing_names_are_reported_and_many_are_counted(monkeypatch, capfd):
    def look(name, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(worker, "_REPORT_SECONDS", 0.05)
    with pytest.raises(exits.TryAgain, match=r"no address within 0.2 s for w-00, .*, w-07 and 2 more: that worker"):
        wait_for_names([f"w-{index:02}" for index in range(10)], 0.2)
    assert "still waiting for the address of w-00, " in capfd.readouterr().err


def test_a_name_server_that_does_not_answer_does_not_hold_the_deadline(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, port: threading.Event().wait(600))
    with pytest.raises(exits.TryAgain, match="for w: that"):
        wait_for_names(["w"], 0.1)


def test_names_are_looked_up_less_and_less_often():
    assert list(itertools.islice(worker._pauses(), 7)) == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.fixture
def users_package(tmp_path, monkeypatch):
    """A package whose import would be noticed, in the current directory."""
    (tmp_path / "nets" / "small").mkdir(parents=True)
    (tmp_path / "nets" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "nets" / "mine.py").write_text("def build(shape, classes): ...\n")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "model", ["article_cnn", "nets.mine:build", "nets:build", "nets.small:build", "json.decoder:x"]
)
def test_an_installed_model_is_found_without_importing_it(users_package, model):
    worker.check_model(model, "rn50")
    assert "nets" not in sys.modules


@pytest.mark.parametrize("model", ["nets.yours:build", "net:build", "nets.mine.deep:build"])
def test_a_model_that_the_image_lacks_is_named(users_package, model):
    with pytest.raises(exits.CannotRun, match=f"--model={model}: job rn50 has no module net"):
        worker.check_model(model, "rn50")


def start(tmp_path, *argv: str, before: Sequence[str] = (), **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-P", "-m", "convoy.launch.worker", *argv],
        cwd=tmp_path,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_hangups,
    )


LOST = {**POD, "CONVOY_HOSTS": "lost.invalid,self.invalid", "CONVOY_DNS_SECONDS": "600"}


def test_a_peer_that_never_appears_is_worth_a_restart(tmp_path):
    process = start(tmp_path, "--", "--run_dir=run", **{**LOST, "CONVOY_DNS_SECONDS": "0.5"})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 42, err
    assert "Worker 1 of 2 of job rn50, restart 3." in err
    assert "no address within 0.5 s for lost.invalid:" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 42), (signal.SIGINT, 130)])
def test_a_worker_that_waits_for_a_name_can_be_stopped(tmp_path, number, code):
    process = start(tmp_path, "--", "--run_dir=run", **LOST)
    assert process.stderr is not None
    assert "Worker 1 of 2" in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "before the run began" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
def test_the_first_process_of_a_container_hears_signals(tmp_path, number, code):
    """The kernel keeps those from it that it has no handler for: here it is the first of a PID namespace."""
    alone = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no PID namespace (unshare)")
    outer = start(tmp_path, "--", "--run_dir=run", before=alone, **LOST)
    assert outer.stderr is not None
    assert "Worker 1 of 2" in outer.stderr.readline()
    (first,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    assert Path(f"/proc/{first}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    os.kill(int(first), number)
    _, err = outer.communicate(timeout=60)
    assert outer.returncode == code, err


def test_signals_after_the_first_do_not_change_how_a_worker_leaves():
    # In a process of its own: those of the tests have handlers of libraries too.
    program = (
        "import signal\nfrom convoy import exits\nfrom convoy.launch import worker\n"
        "numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)\n"
        "for number in numbers: signal.signal(number, worker._leave)\n"
        "try: signal.raise_signal(signal.SIGHUP)\n"
        "except exits.TryAgain as error: print(error)\n"
        "for number in numbers: signal.raise_signal(number)\n"
        "print('still there')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["asked to leave by SIGHUP before the run began.", "still there"]


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["--run_dir=run"], 2, "stand after --"),
        (["--", "--run_dri=run"], 2, "did you mean --run_dir?"),
        (["--", "--run_dir=run", "--batch_size=0"], 78, "--batch_size=0"),
        (["--", "--run_dir=run", "--model=nobodys.net:build"], 78, "nobodys.net"),
    ],
)
def test_permanent_errors_are_reported_before_any_wait(tmp_path, argv, code, sentence):
    process = start(tmp_path, *argv, **LOST)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert sentence in err


def test_nothing_heavy_is_imported_before_the_names_resolve():
    heavy = ("tensorflow", "keras", "jax", "numpy", "yaml")
    program = f"import sys, convoy.launch.worker; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_identity_without_variables_has_the_documented_defaults():
    assert from_environment({}) == WorkerIdentity("", 0, ())
    assert worker.from_environment.__defaults__ == (os.environ,)
