"""Why a job of Kubernetes waits, or why it ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from convoy import exits, supervise
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.api import EVENTS, JOBS, WORKLOADS, Cluster
from convoy.launch.targets.kubernetes.conditions import (
    JOBSET_NAME,
    attempt,
    condition,
    containers,
    holds,
    last_start,
    pods,
    text_of,
    worker,
)
from convoy.launch.targets.kubernetes.documents import Object, job_spec

_STARTING = ("ContainerCreating", "PodInitializing")
_EXIT_CODE = re.compile(r"exit code (\d+)")
_KILLED = 128 + 9
_TERMINATED = 128 + 15


def why_waiting(cluster: Cluster, job: Object, existing: list[Object]) -> str:
    """The first reason found: in Kueue, the scheduler, a container that cannot start, a controller that cannot make pods.

    Args:
      existing: the job's pods, as `pods` gives them.
    """
    if reason := _admission(cluster, job):
        return reason
    restarts = job.get("status", {}).get("restarts", 0)
    current = [pod for pod in existing if attempt(pod) >= restarts]
    if existing and not current:
        return "the pods of its last start are leaving"
    for pod in current:
        for entry in pod.get("status", {}).get("conditions") or []:
            if entry["type"] == "PodScheduled" and entry["status"] == "False":
                return f"worker {worker(pod)} finds no machine: {text_of(entry)}"
    for pod in current:
        for container in containers(pod):
            waiting = container.get("state", {}).get("waiting", {})
            if waiting and waiting.get("reason") not in _STARTING:
                return f"worker {worker(pod)} cannot start: {waiting.get('reason')}, {text_of(waiting)}"
    if len(current) == job_spec(job)["parallelism"]:
        trouble = _warning(cluster, current)
        return f"its containers do not start: {trouble}" if trouble else "its containers are starting"
    if trouble := _warning(cluster, [job, *_jobs(cluster, job)]):
        return f"its pods cannot be made: {trouble}"
    return "its pods are being made" if job.get("status") else "its controller has not seen it yet"


def why_failed(cluster: Cluster, job: Object) -> tuple[str, int | None]:
    """(a sentence, the exit code of `convoy train` where it is known)."""
    jobs = _jobs(cluster, job)
    if any(condition(child, "Failed").get("reason") == "DeadlineExceeded" for child in jobs):
        return "it ran for as long as --hours allows; submitted again, it goes on", exits.TRY_AGAIN
    ended = text_of(condition(job, "Failed"))
    cause = min(deaths(last_start(pods(cluster, job))), default=None)
    if cause is not None:
        return f"worker {cause.worker} {cause.how} ({ended})", supervise.exit_code(cause.code)
    for child in jobs:
        if match := _EXIT_CODE.search(condition(child, "Failed").get("message", "")):
            return f"a worker ended with exit code {match[1]} ({ended})", supervise.exit_code(int(match[1]))
    return ended, None


class Death(NamedTuple):
    """How a worker ended. The smallest of several is the cause of the others.

    A permanent failure ends a job whatever else happened; among the others, the first made its peers fail.
    """

    restarts: bool  # whether it is worth a restart
    time: str
    worker: int
    code: int
    how: str


def deaths(ended: Iterable[Object]) -> Iterator[Death]:
    """The deaths of the workers of these pods."""
    for pod in ended:
        lost = condition(pod, "DisruptionTarget")
        if lost:
            yield Death(
                True, lost["lastTransitionTime"], worker(pod), _TERMINATED, f"lost its machine: {text_of(lost)}"
            )
            continue
        for container in containers(pod):
            end = container.get("state", {}).get("terminated") or {}
            code = end.get("exitCode", 0)
            if not code:
                continue
            if pod["status"].get("reason") == "Evicted":
                how = f"was evicted: {text_of(pod['status'])}; give more --scratch if it is its disk that was full"
            elif end.get("reason") == "OOMKilled":
                how = "was killed, since it needed more memory than it may have; give more --memory"
            elif code == _KILLED:
                how = "was killed (137), which is what want of memory looks like; give more --memory if nobody did it"
            else:
                how = f"ended with exit code {code}"
            yield Death(exits.worth_restarting(code), end.get("finishedAt") or "", worker(pod), code, how)


def _admission(cluster: Cluster, job: Object) -> str:
    """Why Kueue does not let it start; empty if it does, or is not asked."""
    meta = job["metadata"]
    if not job["spec"].get("suspend"):
        return ""
    queue = (meta.get("labels") or {}).get(manifest.QUEUE)
    if not queue:
        resume = cluster.kubectl(
            "patch", job["kind"].lower(), meta["name"], "--type=merge", '-p={"spec":{"suspend":false}}'
        )
        return f"it is suspended, and no queue would start it; `{resume}` does"
    ours = f"kueue.x-k8s.io/job-uid={meta['uid']}"
    workload = next((workload for kind in WORKLOADS for workload in cluster.list(kind, labels=ours)), None)
    if workload is None:
        look = cluster.kubectl("get", "localqueue", queue)
        return f"Kueue has not seen it yet; `{look}` says whether there is the queue"
    if holds(workload, "Evicted") and not holds(workload, "QuotaReserved"):
        return f"Kueue took its machines back: {text_of(condition(workload, 'Evicted'))}"
    for entry in workload.get("status", {}).get("conditions") or []:
        if entry["type"] == "QuotaReserved" and entry["status"] == "False":
            return f"it waits in queue {queue}: {text_of(entry)}"
    for check in workload.get("status", {}).get("admissionChecks") or []:
        if check.get("state") != "Ready":
            return f"queue {queue} waits for its check {check['name']}: {text_of(check)}"
    return f"it waits in queue {queue}"


def _warning(cluster: Cluster, things: Iterable[Object]) -> str:
    """The last warning about one of these objects: a quota, a policy, a volume, a missing service account."""
    about = {thing["metadata"]["uid"] for thing in things}
    warnings = cluster.list(EVENTS, fields="type=Warning")
    events = [event for event in warnings if event["involvedObject"].get("uid") in about]
    last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default=None)
    return "" if last is None else text_of(last)


def _jobs(cluster: Cluster, job: Object) -> list[Object]:
    """The Job itself, or the Jobs of a JobSet."""
    if job["kind"] == "Job":
        return [job]
    return cluster.list(JOBS, labels=f"{JOBSET_NAME}={job['metadata']['name']}")
