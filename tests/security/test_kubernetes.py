"""Kubernetes: connections to workers, limits of pods, pinned images, and hostile states and logs of a cluster."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from kubernetes.config import kube_config

from clusters import ESCAPES, assert_printable
from convoy import exits
from convoy.launch import render, watch
from convoy.launch.targets.kubernetes import api as kube_api
from convoy.launch.targets.kubernetes import documents
from convoy.launch.targets.kubernetes import errors as kube_errors
from convoy.launch.targets.kubernetes.target import KubernetesTarget
from kube_handler import failure
from kube_jobs import RUN, SPEC, refusal, spec
from kube_lives import Life
from kube_server import KubeServer
from support import REPOSITORY

POLICY = ("networkpolicies", "default", "rn50")
ATTEMPT = kube_errors.Attempt("get", "jobs.batch", "rn50", "default", "", "http://server")


def rendered(capsys, *flags: str, run: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The documents that `convoy launch render` prints."""
    assert render.render([*SPEC, *flags, *RUN, *run]) == exits.OK
    return list(yaml.safe_load_all(capsys.readouterr().out))


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[KubeServer]:
    monkeypatch.setattr(kube_errors, "FIRST_PAUSE_SECONDS", 0.001)
    with KubeServer(lambda *_: []) as server:
        server.groups["networking.k8s.io/v1"] = {"networkpolicies": "NetworkPolicy"}
        config = server.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        yield server


@pytest.mark.parametrize(
    ("flags", "run", "label", "ports"),
    [
        ((), (), "jobset.sigs.k8s.io/jobset-name", [{"protocol": "TCP", "port": 2222}]),
        (("--gang=indexed",), (), "batch.kubernetes.io/job-name", [{"protocol": "TCP", "port": 2222}]),
        # NCCL, Gloo and libtpu listen on any free port.
        (("--accelerator=l4x4",), (), "jobset.sigs.k8s.io/jobset-name", None),
        ((), ("--backend=jax",), "jobset.sigs.k8s.io/jobset-name", None),
    ],
)
def test_only_peers_may_connect_to_a_worker(capsys, flags, run, label, ports):
    (policy,) = [document for document in rendered(capsys, *flags, run=run) if document["kind"] == "NetworkPolicy"]
    own = {"matchLabels": {label: "rn50"}}
    assert policy["spec"]["podSelector"] == own
    assert policy["spec"]["policyTypes"] == ["Ingress"], "egress is open"
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": own}]
    assert rule.get("ports") == ports


@pytest.mark.parametrize(("gang", "plural"), [("jobset", "jobsets"), ("indexed", "jobs")])
def test_a_policy_comes_and_goes_with_its_job(server, gang, plural):
    target = KubernetesTarget("default", "")
    target.submit(spec(f"--gang={gang}"))
    assert POLICY in server.objects
    (owner,) = server.objects[POLICY]["metadata"]["ownerReferences"]
    assert owner["uid"] == server.one(plural, "rn50")["metadata"]["uid"]
    target.cancel("rn50")
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}
    target.submit(spec(f"--gang={gang}"))
    life = Life(server, "rn50", plural)
    life.condition("Failed") if gang == "indexed" else life.status(terminalState="Failed")
    assert watch.collect(["--target=k8s"]) == exits.OK
    assert set(server.objects) == {("serviceaccounts", "default", "convoy")}


def test_a_person_who_may_not_create_policies_learns_how_to_do_without(server, launch):
    server.forbidden.add(("create", "networkpolicies"))
    code, output = launch("submit", *SPEC, *RUN)
    assert code == exits.CANNOT_RUN
    assert "cannot create networkpolicies.networking.k8s.io rn50 in namespace default: that is not permitted" in output
    assert "With --network_policy=off the job goes without one" in output
    assert ("jobsets", "default", "rn50") not in server.objects, "no job starts without the policy that was asked for"
    code, output = launch("doctor", "--target=k8s", "--gang=indexed")
    assert "create networkpolicies.networking.k8s.io" in output
    assert "or give --network_policy=off." in output
    assert launch("submit", *SPEC, "--network_policy=off", *RUN)[0] == exits.OK
    assert ("jobsets", "default", "rn50") in server.objects
    assert POLICY not in server.objects
    assert "networkpolicies" not in launch("doctor", "--target=k8s", "--gang=indexed", "--network_policy=off")[1]


def test_a_policy_of_somebody_else_is_not_mistaken_for_ours(server):
    meta = {"name": "rn50", "namespace": "default"}
    open_to_all = {"podSelector": {}, "ingress": [{}]}
    server.put({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": open_to_all})
    sentence = refusal(lambda: KubernetesTarget("default", "").submit(spec()))
    assert sentence.startswith(
        "there is a network policy rn50 in namespace default that is not this job's; give another --name"
    )
    assert ("jobsets", "default", "rn50") not in server.objects


@pytest.mark.parametrize("flags", [(), ("--gang=indexed",), ("--accelerator=l4x4", "--scratch=200Gi"), ("--queue=q",)])
def test_no_pod_fills_the_disk_of_its_node(capsys, flags):
    pod = documents.job_spec(rendered(capsys, *flags)[-1])["template"]["spec"]
    sizes = {volume["name"]: volume["emptyDir"].get("sizeLimit") for volume in pod["volumes"]}
    assert None not in sizes.values()
    scratch = "200Gi" if "--scratch=200Gi" in flags else "10Gi"
    assert sizes["tmp"] == scratch
    resources = pod["containers"][0]["resources"]
    # Kueue admits no job that requests a resource its queue has no quota for.
    expected = None if "--queue=q" in flags else scratch
    assert [resources[kind].get("ephemeral-storage") for kind in ("requests", "limits")] == [expected, expected]


def test_the_image_is_built_on_a_digest():
    text = (REPOSITORY / "k8s" / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    for line in re.findall(r"^RUN .*pip install.*$", text, re.MULTILINE):
        assert "--require-hashes" in line or "--constraints=requirements.lock" in line


def test_no_escape_sequence_of_a_worker_or_a_cluster_reaches_a_terminal(server, launch):
    KubernetesTarget("default", "").submit(spec("--gang=indexed"))
    life = Life(server, "rn50", "jobs")
    life.job["metadata"]["annotations"]["convoy/run-dir"] = f"gs://b/{ESCAPES}"
    life.ready(1)
    server.say(life.pod(0)["metadata"]["name"], f"{ESCAPES}step 1", "10%\r20%\r", "a\tb", over=True)
    code, output = launch("logs", "--target=k8s", "--name=rn50")
    assert code == exits.OK
    assert_printable(output)
    assert output.splitlines()[1:] == ["10%", "20%", "a\tb"]
    life.event(life.pod(1, "Pending"), f"pulled {ESCAPES}")
    life.condition("Failed", f"because {ESCAPES}", reason="BackoffLimitExceeded")
    for verb in ("status", "list", "wait"):
        code, output = launch(verb, "--target=k8s", *(["--name=rn50"] if verb != "list" else []))
        assert "because \\x1b[2J" in output
        assert_printable(output)
    for status in (403, 422, 400, 500):
        server.fault(status, f"no {ESCAPES}", method="GET", path="jobs", times=1000)
        code, output = launch("status", "--target=k8s", "--name=rn50")
        assert code != exits.OK
        assert_printable(output)
        server._faults.clear()
    assert ESCAPES not in str(kube_errors.refusal(422, failure(422, ESCAPES), ATTEMPT))


@pytest.mark.parametrize("odd", ["a label", "restarts", "endless restarts"])
def test_a_job_with_an_unreadable_status_hides_no_other(server, launch, odd):
    """No controller writes such values; a person with access to the namespace may."""
    target = KubernetesTarget("default", "")
    target.submit(spec())
    target.submit(dataclasses.replace(spec(), options=dataclasses.replace(spec().options, name="other")))
    life = Life(server, "rn50")
    if odd == "a label":
        pod = life.pod(0, "Pending")
        pod["metadata"]["labels"]["jobset.sigs.k8s.io/restart-attempt"] = "many"
        server.put(pod)
    else:
        life.job["status"] = {"restarts": "many" if odd == "restarts" else 10**400}
    code, output = launch("list", "--target=k8s")
    assert code == exits.OK
    lines = sorted(output.splitlines())
    assert lines[0].startswith("other: pending, its controller has not seen it yet")
    assert lines[1].startswith("rn50: pending, jobset rn50 does not read as a job of Convoy's")
    assert launch("status", "--target=k8s", "--name=rn50")[0] == exits.BAD_DATA
    assert launch("gc", "--target=k8s")[0] == exits.OK


@pytest.mark.parametrize("code", [256, "many"])
def test_no_exit_code_of_a_container_turns_a_failure_into_a_success(server, launch, code):
    KubernetesTarget("default", "").submit(spec("--gang=indexed"))
    life = Life(server, "rn50", "jobs")
    pod = life.pod(0, "Failed")
    pod["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": code, "reason": "Error"}}}]
    life.condition("Failed", reason="BackoffLimitExceeded")
    exit_code, output = launch("wait", "--target=k8s", "--name=rn50")
    assert exit_code in range(1, 256)
    assert exit_code in (exits.TRY_AGAIN, exits.BAD_DATA), output


def test_an_endless_line_of_a_log_is_cut():
    endless = itertools.chain(itertools.repeat(bytes(1 << 20), 20), [b"\nlast"])
    lines = list(kube_api._lines(SimpleNamespace(stream=lambda **_: endless)))
    assert [len(line) for line in lines] == [1 << 20, 4]
