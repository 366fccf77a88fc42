"""What a worker prints, followed through restarts, lost connections and the pods that come after one another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from convoy import exits
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import ENDS
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.api import JOBS, JOBSETS, Cluster
from convoy.launch.targets.kubernetes.documents import Object, job_spec
from convoy.launch.targets.kubernetes.status import phase, pods, why_waiting, worker

_OVER = ("Succeeded", "Failed")


def lines(cluster: Cluster, job: Object, index: int) -> Iterator[str]:
    """What a worker has printed so far: its last start, then those before it whose pods are still there.

    Raises:
      exits.CannotRun: there is no such worker, or its pods are gone.
      exits.TryAgain: it has not begun.
    """
    name = job["metadata"]["name"]
    _check(job, index)
    found = pods(cluster, job)
    begun = [pod for pod in found if worker(pod) == index and _has_begun(pod)]
    if not begun:
        if phase(job) in ENDS:
            raise exits.CannotRun(
                f"the pods of worker {index} of {name} are gone, and what they printed with them; Google Cloud keeps it:"
                f" `gcloud logging read 'resource.labels.pod_name:{name}-'`."
            )
        raise exits.TryAgain(
            f"worker {index} of {name} has not begun: {why_waiting(cluster, job, found)}; --follow waits for it."
        )
    for place, pod in enumerate(begun):
        if place:
            yield f"--- an earlier start, {pod['metadata']['name']} ---"
        for _, line in cluster.log(pod["metadata"]["name"], manifest.CONTAINER):
            yield line


def follow(cluster: Cluster, job: Object, index: int, poll_seconds: float) -> Iterator[str]:
    """What a worker prints from its last start on, until its job has ended or is gone."""
    _check(job, index)
    resource = JOBSETS if job["kind"] == "JobSet" else JOBS
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    # By pod: the time of the last line that was told, and how many lines had that time.
    told: dict[str, tuple[str, int]] = {}
    over: set[str] = set()
    outage = OutageTolerance()
    while True:
        # The job before its pods: of one that has ended every line is then there to be read.
        with outage.tolerate():
            now = cluster.get(resource, name)
            ended = now is None or now["metadata"]["uid"] != uid or phase(now) in ENDS
            found = [pod for pod in pods(cluster, job) if worker(pod) == index]
        if outage.since:
            time.sleep(poll_seconds)
            continue
        for pod in reversed([pod for pod in found if pod is found[0] or pod["metadata"]["uid"] in told]):
            own = pod["metadata"]["uid"]
            if not _has_begun(pod) or own in over:
                continue
            if told and own not in told:
                yield f"--- started again, {pod['metadata']['name']} ---"
            # A machine that goes takes the way to its pods' logs with it; the job may go on elsewhere.
            with contextlib.suppress(exits.TryAgain):
                yield from _new_lines(cluster, pod, told)
            if pod["status"]["phase"] in _OVER:
                over.add(own)
        if ended:
            return
        time.sleep(poll_seconds)


def _new_lines(cluster: Cluster, pod: Object, told: dict[str, tuple[str, int]]) -> Iterator[str]:
    """What a pod prints after what was told of it, until it ends or the connection does.

    The server leaves out whole seconds only, so what has been told of the last one comes again and is passed over.
    """
    uid = pod["metadata"]["uid"]
    last, count = told.setdefault(uid, ("", 0))
    seen = 0  # of the lines with the time `last`
    for moment, line in cluster.log(pod["metadata"]["name"], manifest.CONTAINER, since=last, follow=True):
        if moment < last:
            continue
        if moment == last:
            seen += 1
            if seen <= count:
                continue
        else:
            last, seen, count = moment, 1, 0
        told[uid] = last, seen
        yield line


def _has_begun(pod: Object) -> bool:
    """Whether its container has a log."""
    containers = pod.get("status", {}).get("containerStatuses") or []
    return any("running" in one.get("state", {}) or "terminated" in one.get("state", {}) for one in containers)


def _check(job: Object, index: int) -> None:
    workers = job_spec(job)["parallelism"]
    if not 0 <= index < workers:
        raise exits.CannotRun(
            f"--worker={index}: {job['metadata']['name']} has {workers} worker{'s' * (workers > 1)}, from 0 to {workers - 1}."
        )
