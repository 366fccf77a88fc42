"""The command lines of a dry run, as a shell reads them; the real kubectl, where it is installed, on the same server as we."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
import yaml

from kube_jobs import spec
from launch.job import from_argv
from launch.targets.kubernetes import KubernetesTarget


def test_a_dry_run_needs_no_cluster(target, server):
    """It is YAML as a whole, and its command lines are what a shell reads as they were meant."""
    run = ["--", "--run_dir=gs://b/it's $(here)", "--dataset=cifar10"]
    target = KubernetesTarget("default", "there")
    told = target.describe(spec("--context=there", run=run))
    assert server.seen == []
    documents = list(yaml.safe_load_all(told))
    assert [document["kind"] for document in documents] == ["ServiceAccount", "JobSet"]
    submit, look, end = (line for line in told.splitlines() if line.startswith(("# submit: ", "# look: ", "# end: ")))
    # What the shell hands over: kubectl's standard input is whatever convoy prints, here its words.
    tell = "printf '%s\\0' \"$@\""
    script = f"convoy() {{ {tell}; }}; kubectl() {{ cat; {tell}; }}; {submit.removeprefix('# submit: ')}"
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")
    own = words[words.index("render") + 1 : words.index("apply") - 1]
    assert from_argv(own) == spec("--context=there", run=run)
    assert look == "# look: kubectl --context=there get jobsets.jobset.x-k8s.io rn50 --namespace=default"
    assert (
        end
        == "# end: kubectl --context=there delete jobsets.jobset.x-k8s.io rn50 --cascade=foreground --namespace=default"
    )


@pytest.fixture
def kubectl(server, tmp_path):
    """The real kubectl, with the server's kubeconfig."""
    if not (place := shutil.which("kubectl")):
        pytest.skip("no kubectl is installed")
    server.token = ""
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "HOME": str(tmp_path)}

    def call(*words: str, text: str = "", code: int = 0) -> str:
        done = subprocess.run([place, *words], input=text, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return call


@pytest.mark.parametrize("gang", ["jobset", "indexed"])
def test_what_kubectl_applies_is_what_we_would_submit(server, target, kubectl, gang):
    """By the lines of a dry run. Nothing of the server's answers surprises it, either."""
    told = target.describe(spec(f"--gang={gang}"))
    # The server has no schemas that kubectl could fetch to check them itself; the server checks.
    assert "rn50 created" in kubectl("apply", "--validate=false", "--filename=-", "--namespace=default", text=told)
    state = target.state("rn50")
    assert (state.digest, state.phase) == (spec(f"--gang={gang}").digest, "pending")
    assert target.submit(spec(f"--gang={gang}")) == state
    plural = "jobs.batch" if gang == "indexed" else "jobsets.jobset.x-k8s.io"
    assert "rn50" in kubectl("get", plural, "rn50", "--namespace=default", "--output=name")
    server.linger = 2
    assert "deleted" in kubectl("delete", plural, "rn50", "--cascade=foreground", "--namespace=default")
    assert "NotFound" in kubectl("get", plural, "rn50", "--namespace=default", code=1)


def test_kubectl_sees_a_job_as_we_do(server, target, life, kubectl):
    server.say(life.pod(0)["metadata"]["name"], "hello", over=True)
    assert kubectl("logs", life.pod(0)["metadata"]["name"]) == "hello\n"
    server.put({**life.job, "spec": {**life.job["spec"], "suspend": True}})
    _, resume, _ = target.state("rn50").reason.split("`")
    assert "patched" in kubectl(*shlex.split(resume)[1:])
    assert life.job["spec"]["suspend"] is False
