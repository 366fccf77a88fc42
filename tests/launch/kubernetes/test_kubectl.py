"""The command lines of a dry run, as a shell reads them; the real kubectl, where it is installed, on the same server as we."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from convoy.launch.command_line import from_argv
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.target import KubernetesTarget
from kube_documents import read
from kube_jobs import IMAGE, spec

pytestmark = pytest.mark.slow  # kubectl


def _words_of(description: str) -> list[str]:
    """What the shell hands to convoy and then to kubectl, of the line of a dry run that submits. An empty word ends it."""
    (submit,) = [line.removeprefix("# submit: ") for line in description.splitlines() if line.startswith("# submit: ")]
    tell = "printf '%s\\0' \"$@\""
    # kubectl's standard input is whatever convoy prints, here its words.
    script = f"convoy() {{ {tell}; }}; kubectl() {{ cat; {tell}; }}; {submit}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    return done.stdout.decode().split("\0")


def test_a_dry_run_needs_no_cluster(server):
    """It is YAML as a whole, and its command lines are what a shell reads as they were meant."""
    run = ["--", "--run_dir=gs://b/it's $(here)", "--dataset=cifar10"]
    description = KubernetesTarget("default", "there").describe(spec("--context=there", run=run))
    assert server.seen == []
    assert [document["kind"] for document in yaml.safe_load_all(description)] == [
        "ServiceAccount",
        "NetworkPolicy",
        "JobSet",
    ]
    words = _words_of(description)
    assert from_argv(words[words.index("render") + 1 : words.index("apply") - 1]) == spec("--context=there", run=run)
    assert description.splitlines()[2:4] == [
        "# look: kubectl --context=there get jobsets.jobset.x-k8s.io/rn50 --namespace=default",
        "# end: kubectl --context=there delete jobsets.jobset.x-k8s.io/rn50 networkpolicies.networking.k8s.io/rn50"
        " --cascade=foreground --namespace=default",
    ]


# What YAML or a shell takes for an end of a word, and letters of every kind; tests/security has what is refused.
_TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]) | st.sampled_from("'\"`$\\;#&|<>%!~ \u00a0\u200d")
)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(_TEXT, _TEXT, _TEXT)
def test_every_flag_stays_one_word(path, data_dir, context):
    """Not in the documents, not in a comment of theirs, not in a shell's line."""
    job = spec(f"--context={context}", run=["--", f"--run_dir=gs://b/{path}", f"--data_dir=gs://{data_dir}"])
    description = KubernetesTarget("default", context).describe(job)
    assert read(description) == manifest.render(job)
    words, place = _words_of(description), [f"--context={context}"] if context else []
    assert words[words.index("render") :] == [
        "render", "--name=rn50", "--target=k8s", *place, "--workers=2", f"--image={IMAGE}", "--", *job.train_flags,
        *place, "apply", "--filename=-", "--namespace=default", ""]  # fmt: skip


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
    description = target.describe(spec(f"--gang={gang}"))
    # The server has no schemas that kubectl could fetch to check them itself; the server checks.
    assert "rn50 created" in kubectl(
        "apply", "--validate=false", "--filename=-", "--namespace=default", text=description
    )
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
