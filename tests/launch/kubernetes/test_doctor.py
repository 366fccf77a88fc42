"""`convoy launch doctor`: each thing that is looked at, whole and broken, with the way to mend it."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable

import google.auth
import pytest
import yaml
from google.auth.exceptions import DefaultCredentialsError
from kubernetes.config import kube_config

from convoy import exits
from convoy.launch import doctor
from convoy.launch.targets.kubernetes import errors
from crds import _Loader
from kube_server import KubeServer
from support import DATA

IMAGE = f"registry.example.com/convoy@sha256:{'0' * 64}"


@functools.cache
def definition(version: str) -> dict:
    """JobSet's custom resource definition, as it is published; the test is skipped where it is absent."""
    place = DATA / "crds" / f"jobset-v{version}.yaml"
    if not place.is_file():
        pytest.skip(f"no {place.name} in {place.parent} (CONVOY_TEST_DATA)")
    return yaml.load(place.read_text(), Loader=_Loader)


def openapi(version: str) -> dict:
    """What a cluster publishes of JobSet's schema."""
    schema = copy.deepcopy(definition(version)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    kinds = [{"group": "jobset.x-k8s.io", "version": "v1alpha2", "kind": "JobSet"}]
    return {
        "components": {"schemas": {"x.Other": {}, "x.JobSet": {**schema, "x-kubernetes-group-version-kind": kinds}}}
    }


@pytest.fixture
def cluster(server) -> KubeServer:
    """One that publishes JobSet's schema."""
    server.openapi = openapi("0.12.0")
    return server


@pytest.fixture
def examine(capsys) -> Callable[..., tuple[int, list[str]]]:
    """Flags -> (exit code, lines)."""

    def call(*flags: str) -> tuple[int, list[str]]:
        code = doctor.doctor(list(flags))
        return code, capsys.readouterr().out.splitlines()

    return call


def wrong(lines: list[str]) -> list[str]:
    return [line.removeprefix("wrong  ") for line in lines if not line.startswith("ok     ")]


def test_a_cluster_that_has_everything(cluster, examine, tmp_path):
    queue = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": {"name": "team-queue"}}
    active = {"type": "Active", "status": "True"}
    cluster.put({**queue, "spec": {"clusterQueue": "gpus"}, "status": {"conditions": [active]}})
    cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "me"}})
    before = dict(cluster.objects)
    code, lines = examine(
        "--target=k8s", "--queue=team-queue", "--service_account=me", f"--image={IMAGE}", f"--run_dir={tmp_path}")  # fmt: skip
    assert lines[1:] == [
        f"ok     kubeconfig: the current context, {cluster.url}",
        "ok     cluster: Kubernetes v1.33.4-gke.1",
        "ok     permissions: all that jobs need in namespace default",
        "ok     JobSet: 0.11 or later, by its schema",
        "ok     a job: a JobSet of two workers would be accepted (a dry run)",
        "ok     queue: team-queue, of cluster queue gpus",
        "ok     service account: me",
        f"ok     image: {IMAGE}",
        f"ok     run directory: {tmp_path} can be read by you, and is not empty; the job's own account is not tried",
    ]
    assert lines[0].startswith("ok     client: kubernetes 3")
    assert code == exits.OK
    assert cluster.objects == before


def test_an_indexed_job_needs_no_jobset(cluster, examine):
    del cluster.groups["jobset.x-k8s.io/v1alpha2"]
    code, lines = examine("--target=k8s", "--gang=indexed", "--context=there")
    assert (code, wrong(lines)) == (exits.OK, [])
    assert lines[1] == f"ok     kubeconfig: context there, {cluster.url}"
    assert lines[-1] == "ok     a job: a Job of two workers would be accepted (a dry run)"


def test_no_kubeconfig_ends_the_look_at_the_cluster_only(cluster, examine, monkeypatch, tmp_path):
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    code, lines = examine("--target=k8s", "--image=convoy:1")
    assert code == exits.CANNOT_RUN
    assert [line.partition(": ")[0] for line in lines] == ["ok     client", "wrong  kubeconfig", "wrong  image"]
    assert lines[1].startswith("wrong  kubeconfig: there is no kubeconfig that names a cluster")


def test_a_cluster_that_does_not_answer_is_asked_once(cluster, examine):
    cluster.fault(503, "etcd is away", times=99)
    code, lines = examine("--target=k8s")
    assert code == exits.CANNOT_RUN
    assert wrong(lines) == [
        "cluster: cannot get /version now: HTTP 503, etcd is away; try again, or look with"
        " `kubectl get '--raw=/readyz?verbose'`."
    ]
    assert len(cluster.seen) == 1 + errors.RETRIES


def test_a_kubernetes_that_is_too_old(cluster, examine):
    cluster.version = {"major": "1", "minor": "28+", "gitVersion": "v1.28.9"}
    _, lines = examine("--target=k8s")
    assert wrong(lines) == ["cluster: Kubernetes v1.28.9 is too old: jobs need 1.29 or later; upgrade the cluster."]


def test_missing_permissions(cluster, examine):
    cluster.forbidden |= {("create", "jobsets"), ("get", "pods/log")}
    code, lines = examine("--target=k8s", "--context=there")
    assert code == exits.CANNOT_RUN
    permissions, dry_run = wrong(lines)
    assert permissions == (
        "permissions: not permitted in namespace default: create jobsets.jobset.x-k8s.io, get pods/log; `kubectl"
        " --context=there auth can-i create jobsets.jobset.x-k8s.io --namespace=default` must say yes,"
        " so ask for a role that allows it."
    )
    assert dry_run.startswith(
        "a job: cannot create jobsets.jobset.x-k8s.io convoy-doctor in namespace default: that is not permitted"
    )


def test_no_jobset(cluster, examine):
    del cluster.groups["jobset.x-k8s.io/v1alpha2"]
    cluster.jobset = ""
    code, lines = examine("--target=k8s")
    assert code == exits.CANNOT_RUN
    assert wrong(lines)[0] == (
        "JobSet: JobSet is not installed in the cluster; install it as https://jobset.sigs.k8s.io/docs/installation says, or"
        " give --gang=indexed, a job that does not restart."
    )


@pytest.mark.parametrize(("version", "oldest"), [("0.8.2", "0.8"), ("0.12.0", "0.11")])
def test_versions_of_jobset_are_known_by_their_fields(cluster, examine, version, oldest):
    cluster.openapi, cluster.jobset = openapi(version), version
    code, lines = examine("--target=k8s")
    assert code == exits.OK
    assert f"ok     JobSet: {oldest} or later, by its schema" in lines


def test_a_jobset_that_is_too_old(cluster, examine):
    spec = cluster.openapi["components"]["schemas"]["x.JobSet"]["properties"]["spec"]["properties"]
    del spec["replicatedJobs"]["items"]["properties"]["dependsOn"]
    _, lines = examine("--target=k8s")
    assert wrong(lines) == [
        "JobSet: the cluster's JobSet is older than 0.8; renew it as https://jobset.sigs.k8s.io/docs/installation says."
    ]


def test_a_job_that_the_cluster_would_refuse_is_reported(cluster, examine):
    cluster.fault(403, 'admission webhook "policy" denied the request: no', method="POST", path="jobsets.*dryRun=All")
    _, lines = examine("--target=k8s")
    assert wrong(lines) == [
        "a job: cannot create jobsets.jobset.x-k8s.io convoy-doctor in namespace default: a policy of the cluster refuses it:"
        ' admission webhook "policy" denied the request: no; ask who runs the cluster.'
    ]


def test_queues(cluster, examine):
    flags = ("--target=k8s", "--queue=team-queue")
    assert wrong(examine(*flags)[1]) == [
        "queue: there is no queue team-queue in namespace default; `kubectl get localqueues --namespace=default` lists those"
        " there are."
    ]
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "LocalQueue",
        "metadata": {"name": "team-queue"},
        "spec": {},
    }
    stopped = {"type": "Active", "status": "False", "message": "Can't submit new workloads to clusterQueue"}
    cluster.put({**queue, "status": {"conditions": [stopped]}})
    assert wrong(examine(*flags)[1]) == [
        "queue: queue team-queue admits nothing: Can't submit new workloads to clusterQueue; `kubectl describe localqueue"
        " team-queue --namespace=default` says more."
    ]
    for version in ("v1beta1", "v1beta2"):
        del cluster.groups[f"kueue.x-k8s.io/{version}"]
    assert wrong(examine(*flags)[1]) == [
        "queue: Kueue is not installed in the cluster; install it as https://kueue.sigs.k8s.io/docs/installation says, or leave"
        " --queue out."
    ]


def test_an_unknown_service_account(cluster, examine):
    code, lines = examine("--target=k8s", "--service_account=me", "--namespace=team")
    assert code == exits.CANNOT_RUN
    assert wrong(lines) == [
        "service account: there is no service account me in namespace team; `kubectl create serviceaccount me --namespace=team`"
        " makes it."
    ]


@pytest.mark.parametrize("image", ["convoy", "convoy:1", "convoy@sha256:123", "it's"])
def test_an_image_without_a_digest(examine, image):
    code, lines = examine(f"--image={image}")
    assert code == exits.CANNOT_RUN
    (sentence,) = wrong(lines)
    quoted = "'it'\"'\"'s'" if image == "it's" else image
    assert sentence == (
        f"image: {image} is not named by its digest, so it may be another one after a restart; `docker buildx imagetools"
        f" inspect {quoted}` tells the digest, give REF@sha256:..."
    )


def test_a_run_directory_that_cannot_be_read(examine):
    code, lines = examine("--run_dir=s3://bucket/run")
    assert code == exits.CANNOT_RUN
    assert wrong(lines) == [
        "run directory: s3://bucket/run: s3:// is no place that Convoy can write; give a local path or gs://BUCKET/PATH."
    ]


def test_this_machine(examine, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, lines = examine()
    assert code == exits.OK
    assert lines[0].startswith("ok     Python: 3.")
    assert lines[1].startswith("ok     engine: tensorflow")
    assert lines[2] == "ok     jobs: 0 jobs there"


def test_no_credentials_of_google_cloud(examine, monkeypatch):
    def none():
        raise DefaultCredentialsError("no")

    monkeypatch.setattr(google.auth, "default", none)
    code, lines = examine("--target=tpu-vm", "--project=p", "--zone=z")
    assert code == exits.CANNOT_RUN
    assert lines[0].startswith("ok     client: google-cloud-tpu 1.")
    assert lines[1:] == ["wrong  credentials: Google Cloud has none here; run `gcloud auth application-default login`."]


def test_a_client_that_is_not_installed(examine, monkeypatch):
    """The rest of the place cannot be seen then."""
    for name in [name for name in sys.modules if name.startswith(("kubernetes", "convoy.launch.targets.kubernetes"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    code, lines = examine("--target=k8s", f"--image={IMAGE}")
    assert code == exits.CANNOT_RUN
    assert lines == [
        "wrong  client: --target=k8s needs the package kubernetes, which is not here; run `pip install"
        " 'keras-convoy[launch]'`.",
        f"ok     image: {IMAGE}",
    ]


def test_help_and_unknown_flags(examine):
    code, lines = examine("--help")
    assert code == exits.OK
    assert "  --queue              k8s: its Kueue queue." in lines
    with pytest.raises(exits.UsageError, match="there is no flag --que; did you mean --queue"):
        examine("--que=x")
