"""What the status of an object of Kubernetes says: conditions, phases, containers; and the pods of a job."""

from __future__ import annotations

import datetime

from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED
from convoy.launch.targets.kubernetes.api import PODS, Cluster
from convoy.launch.targets.kubernetes.documents import Object
from convoy.outside import printable

JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"
_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
_INDEX = "batch.kubernetes.io/job-completion-index"
_JOB_NAME = "batch.kubernetes.io/job-name"


def phase(job: Object) -> str:
    """The phase by the object's own status. Its pods and child Jobs cannot tell: they fail while JobSet restarts them."""
    status = job.get("status", {})
    ended = status.get("terminalState")  # only a JobSet has one
    if ended == "Completed" or holds(job, "Completed") or holds(job, "Complete"):
        return SUCCEEDED
    if ended == "Failed" or holds(job, "Failed"):
        return FAILED
    if "deletionTimestamp" in job["metadata"]:
        return CANCELLED
    if job["spec"].get("suspend"):
        return PENDING
    if holds(job, "RestartingJobSet"):
        return RESTARTING
    if _all_there(job):
        return RUNNING
    return RESTARTING if status.get("restarts") else PENDING


def pods(cluster: Cluster, job: Object) -> list[Object]:
    """The pods that still exist, those of the last attempt first, each attempt in the order of workers."""
    label = JOBSET_NAME if job["kind"] == "JobSet" else _JOB_NAME
    existing = cluster.list(PODS, labels=f"{label}={job['metadata']['name']}")
    return sorted(existing, key=lambda pod: (-attempt(pod), worker(pod)))


def last_start(existing: list[Object]) -> list[Object]:
    """The pods of the last attempt; `existing` as `pods` gives them."""
    return [pod for pod in existing if attempt(pod) == attempt(existing[0])]


def worker(pod: Object) -> int:
    """The index of a pod's worker, from 0."""
    return int((pod["metadata"].get("annotations") or {}).get(_INDEX, 0))


def attempt(pod: Object) -> int:
    """How often the job had begun again when the pod was created."""
    return int(pod["metadata"]["labels"].get(_ATTEMPT, 0))


def seconds(time: str) -> float:
    """Kubernetes' time -> seconds since 1970."""
    return datetime.datetime.fromisoformat(time).timestamp()


def containers(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def condition(thing: Object, kind: str) -> Object:
    """The condition of that type if it holds, else nothing."""
    for entry in thing.get("status", {}).get("conditions") or []:
        if entry["type"] == kind and entry["status"] == "True":
            return entry
    return {}


def holds(thing: Object, kind: str) -> bool:
    return bool(condition(thing, kind))


def text_of(source: Object) -> str:
    """The message or reason of a condition, an event or a container's state, on one line."""
    return printable(" ".join((source.get("message") or source.get("reason") or "no reason given").split()).rstrip("."))


def _all_there(job: Object) -> bool:
    """Whether every worker runs, or has run."""
    status = job.get("status", {})
    if job["kind"] == "Job":
        return status.get("ready", 0) + status.get("succeeded", 0) >= job["spec"]["parallelism"]
    counts = {child["name"]: child["ready"] + child["succeeded"] for child in status.get("replicatedJobsStatus") or []}
    wanted = job["spec"]["replicatedJobs"]
    return all(counts.get(replicated["name"], 0) >= replicated.get("replicas", 1) for replicated in wanted)
