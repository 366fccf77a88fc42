"""`convoy launch doctor --target=k8s`: whether a cluster has what jobs need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from convoy import exits
from convoy.launch.build import build
from convoy.launch.targets.base import Check
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.kubernetes.api import (
    EVENTS,
    JOBS,
    JOBSETS,
    NETWORK_POLICIES,
    PODS,
    QUEUES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Cluster,
    Resource,
)
from convoy.launch.targets.kubernetes.errors import INSTALL_JOBSET
from convoy.launch.targets.kubernetes.options import KubernetesDoctorOptions, KubernetesPlace
from convoy.launch.targets.options import job_options
from convoy.trainer.config import RunConfig

# The first with podReplacementPolicy on; before, a pod could run beside the pod that it replaces.
OLDEST_KUBERNETES = (1, 29)
OLDEST_JOBSET = "0.8"
_INSTALL_KUEUE = "https://kueue.sigs.k8s.io/docs/installation"
# A field that came with each version, as its path in the schema: the API's version is v1alpha2 in all of them.
_RULE = ("failurePolicy", "rules", "onJobFailureMessagePatterns")
_SINCE = {"0.8": ("replicatedJobs", "dependsOn"), "0.10": _RULE, "0.11": ("volumeClaimPolicies",)}
_IMAGE = "registry.example.com/convoy:doctor"  # of the job for the dry run


def checks(place: KubernetesPlace, given: KubernetesDoctorOptions) -> Iterator[Check]:
    """What to check, in order; the later ones need the cluster that the first one opens."""
    opened: list[Cluster] = []

    def kubeconfig() -> str:
        opened.append(Cluster(place.namespace, place.context))
        context = f"context {place.context}" if place.context else "the current context"
        return f"{context}, {opened[0].server}"

    yield Check("kubeconfig", kubeconfig, essential=True)
    yield Check("cluster", lambda: _version(opened[0]), essential=True)
    yield Check("permissions", lambda: _permissions(opened[0], given))
    if given.gang == "jobset":
        yield Check("JobSet", lambda: _jobset(opened[0]))
    yield Check("a job", lambda: _dry_run(opened[0], given))
    if given.queue:
        yield Check("queue", lambda: _queue(opened[0], given.queue))
    if given.service_account:
        yield Check("service account", lambda: _service_account(opened[0], given.service_account))


def _version(cluster: Cluster) -> str:
    version = cluster.read("/version") or {}
    major, minor = (int(re.sub(r"\D.*", "", version.get(part, "")) or 0) for part in ("major", "minor"))
    if (major, minor) < OLDEST_KUBERNETES:
        raise exits.CannotRun(
            f"Kubernetes {version.get('gitVersion', '?')} is too old: jobs need 1.29 or later; upgrade the cluster."
        )
    return f"Kubernetes {version['gitVersion']}"


def _permissions(cluster: Cluster, given: KubernetesDoctorOptions) -> str:
    owner = JOBSETS if given.gang == "jobset" else JOBS
    needed: list[tuple[str, Resource, str]] = [(verb, owner, "") for verb in ("create", "get", "list", "delete")]
    needed += [*(("list", kind, "") for kind in (PODS, JOBS, EVENTS)), ("get", PODS, "log")]
    if not given.service_account:
        needed.append(("get", SERVICE_ACCOUNTS, ""))
        ours = documents.base("service-account/service_account.yaml")["metadata"]["name"]
        if cluster.may("get", SERVICE_ACCOUNTS) and cluster.get(SERVICE_ACCOUNTS, ours) is None:
            needed.append(("create", SERVICE_ACCOUNTS, ""))
    if given.gang == "indexed":
        needed += [("get", SERVICES, ""), ("create", SERVICES, "")]
    if given.network_policy == "on":
        needed += [("get", NETWORK_POLICIES, ""), ("create", NETWORK_POLICIES, "")]
    lacking = [
        (verb, f"{kind}{f'/{part}' * bool(part)}") for verb, kind, part in needed if not cluster.may(verb, kind, part)
    ]
    if lacking:
        permissions = ", ".join(f"{verb} {what}" for verb, what in lacking)
        ask = cluster.kubectl("auth", "can-i", *lacking[0])
        raise exits.CannotRun(
            f"not permitted in namespace {cluster.namespace}: {permissions}; `{ask}` must say yes, so ask for a role that"
            " allows it"
            + (", or give --network_policy=off." if all("networkpolicies" in what for _, what in lacking) else ".")
        )
    return f"all that jobs need in namespace {cluster.namespace}"


def _jobset(cluster: Cluster) -> str:
    document = cluster.read(f"/openapi/v3/apis/{JOBSETS.group}/{JOBSETS.version}")
    if document is None:
        raise exits.CannotRun(
            f"JobSet is not installed in the cluster; install it as {INSTALL_JOBSET} says, or give --gang=indexed, a job that"
            " does not restart."
        )
    schemas = document["components"]["schemas"].values()
    spec = next(schema for schema in schemas if _is_jobset(schema))["properties"]["spec"]
    versions = [version for version, path in _SINCE.items() if _has(spec, path)]
    if OLDEST_JOBSET not in versions:
        raise exits.CannotRun(f"the cluster's JobSet is older than {OLDEST_JOBSET}; renew it as {INSTALL_JOBSET} says.")
    return f"{versions[-1]} or later, by its schema"


def _is_jobset(schema: dict[str, Any]) -> bool:
    return any(kind["kind"] == JOBSETS.kind for kind in schema.get("x-kubernetes-group-version-kind", []))


def _has(schema: dict[str, Any], path: tuple[str, ...]) -> bool:
    for name in path:
        schema = schema.get("items", schema).get("properties", {}).get(name)
        if schema is None:
            return False
    return True


def _dry_run(cluster: Cluster, given: KubernetesDoctorOptions) -> str:
    """Has the cluster check a job (fields, webhooks, policies, permission) without storing it."""
    own: dict[str, Any] = {"gang": given.gang, "queue": given.queue, "namespace": cluster.namespace}
    flags = job_options()(name="convoy-doctor", target="k8s", image=_IMAGE, workers=2, **own)
    job = manifest.render(build(flags, RunConfig(run_dir="gs://bucket/doctor")))[-1]
    cluster.create(job, dry_run=True)
    return f"a {job['kind']} of two workers would be accepted (a dry run)"


def _queue(cluster: Cluster, name: str) -> str:
    local_queue = next((queue for kind in QUEUES if (queue := cluster.get(kind, name)) is not None), None)
    if local_queue is None:
        if cluster.read(f"/apis/{QUEUES[0].group}") is None:
            raise exits.CannotRun(
                f"Kueue is not installed in the cluster; install it as {_INSTALL_KUEUE} says, or leave --queue out."
            )
        raise exits.CannotRun(
            f"there is no queue {name} in namespace {cluster.namespace};"
            f" `{cluster.kubectl('get', 'localqueues')}` lists those there are."
        )
    for condition in local_queue.get("status", {}).get("conditions") or []:
        if condition["type"] == "Active" and condition["status"] == "False":
            raise exits.CannotRun(
                f"queue {name} admits nothing: {condition.get('message', condition.get('reason'))};"
                f" `{cluster.kubectl('describe', 'localqueue', name)}` says more."
            )
    return f"{name}, of cluster queue {local_queue['spec'].get('clusterQueue')}"


def _service_account(cluster: Cluster, name: str) -> str:
    if cluster.get(SERVICE_ACCOUNTS, name) is None:
        raise exits.CannotRun(
            f"there is no service account {name} in namespace {cluster.namespace};"
            f" `{cluster.kubectl('create', 'serviceaccount', name)}` makes it."
        )
    return name
