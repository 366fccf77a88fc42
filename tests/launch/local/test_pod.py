"""What a worker runs on this machine and finds in its environment: what a pod does, but for hosts and faults."""

from __future__ import annotations

import socket
import sys

import pytest

from convoy import exits
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.documents import job_spec
from convoy.launch.targets.local import faults, pod
from convoy.launch.targets.local.target import LocalTarget
from local_jobs import job

pytestmark = pytest.mark.usefixtures("state_directory")


@pytest.mark.parametrize("gang", ["jobset", "indexed"])
def test_a_worker_runs_what_the_documents_say(gang, monkeypatch):
    def with_more(spec):
        *rest, owner = render(spec)
        job_spec(owner)["template"]["spec"]["containers"][0]["env"].append({"name": "MORE", "value": "of $$5"})
        return [*rest, owner]

    spec = job("--image=ref", f"--gang={gang}", run=("--seed=7", "--model=a.b:c", "--data_dir=$HOME/$(X)"))
    render = manifest.render
    monkeypatch.setattr(manifest, "render", with_more)
    *_, rendered = manifest.render(spec)
    (container,) = job_spec(rendered)["template"]["spec"]["containers"]
    assert pod.command(spec) == [sys.executable, *manifest.command(spec)[1:]]
    assert "--data_dir=$$HOME/$$(X)" in container["command"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    for index, own in enumerate(pod.environments(spec, 3, [4001, 4002], faults.parse("", 2))):
        # Kubernetes adds the index; the attempt and the writer come from labels of a pod; HOME is a folder of the container.
        assert own.keys() | {"HOME", "CONVOY_WRITER"} == variables.keys() | {"JOB_COMPLETION_INDEX", "CONVOY_WRITER"}
        assert own.pop("JOB_COMPLETION_INDEX") == str(index)
        assert own.pop("CONVOY_RESTART_ATTEMPT") == "3"
        assert own.pop("CONVOY_HOSTS") == "127.0.0.1:4001,127.0.0.1:4002"
        assert own.pop("MORE") == "of $5"
        assert own == {name: variables[name] for name in own}


@pytest.mark.parametrize("accelerator", ["t4x1", "v5p-8", "l4x1@g2-standard-16"])
def test_a_job_is_rehearsed_whatever_its_machine(accelerator):
    """Of the first nothing is known that Kubernetes would need; the second is a TPU; the third names a node."""
    spec = job(f"--accelerator={accelerator}", workers=0)
    assert pod.command(spec) == [sys.executable, "-P", "-m", "convoy.launch.worker", "--", "--run_dir=run"]


def test_ports_are_free_and_different(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(pod, "_PORTS", range(port, port + 1))
        with pytest.raises(exits.TryAgain, match="1 ports of"):
            pod.free_ports(1)
    monkeypatch.undo()
    assert len(set(pod.free_ports(8))) == 8


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
def test_impossible_faults(text, error, sentence):
    with pytest.raises(error, match=sentence):
        LocalTarget(text).submit(job())
    assert LocalTarget().jobs() == []


def test_a_single_worker_has_no_name_to_lose():
    with pytest.raises(exits.CannotRun, match="--workers=2"):
        LocalTarget("dns:worker-0").submit(job(workers=1))


def test_a_dry_run_shows_the_processes_and_touches_nothing(tmp_path):
    text = LocalTarget("kill:worker-1@step=40").describe(job(run=("--model=a.b:c",)))
    first, second = text.splitlines()[1:]
    assert "JOB_COMPLETION_INDEX=0" in first
    assert "CONVOY_CHAOS" not in first
    assert "CONVOY_CHAOS=kill:between@40" in second
    assert second.endswith("-P -m convoy.launch.worker -- --run_dir=run --model=a.b:c")
    assert list(tmp_path.iterdir()) == []
