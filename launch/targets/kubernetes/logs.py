"""What a worker prints, followed through restarts, lost connections and replaced pods."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from convoy import exits
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import ENDS, check_worker
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.api import JOBS, JOBSETS, Cluster
from convoy.launch.targets.kubernetes.conditions import phase, pods, worker
from convoy.launch.targets.kubernetes.documents import Object, job_spec
from convoy.launch.targets.kubernetes.reasons import why_waiting

_OVER = ("Succeeded", "Failed")


def lines(cluster: Cluster, job: Object, index: int) -> Iterator[str]:
    """What a worker has printed so far: its last start, then earlier ones whose pods still exist.

    Raises:
      exits.CannotRun: there is no such worker, or its pods are gone.
      exits.TryAgain: it has not begun.
    """
    name = job["metadata"]["name"]
    check_worker(index, job["metadata"]["name"], job_spec(job)["parallelism"])
    existing = pods(cluster, job)
    begun = [pod for pod in existing if worker(pod) == index and _has_begun(pod)]
    if not begun:
        if phase(job) in ENDS:
            raise exits.CannotRun(
                f"the pods of worker {index} of {name} are gone, and what they printed with them; Google Cloud keeps it:"
                f" `gcloud logging read 'resource.labels.pod_name:{name}-'`."
            )
        raise exits.TryAgain(
            f"worker {index} of {name} has not begun: {why_waiting(cluster, job, existing)}; --follow waits for it."
        )
    for start, pod in enumerate(begun):
        if start:
            yield f"--- an earlier start, {pod['metadata']['name']} ---"
        for _, line in cluster.log(pod["metadata"]["name"], manifest.CONTAINER):
            yield line


def follow(cluster: Cluster, job: Object, index: int, poll_seconds: float) -> Iterator[str]:
    """What a worker prints from its last start on, until its job has ended or is gone."""
    check_worker(index, job["metadata"]["name"], job_spec(job)["parallelism"])
    resource = JOBSETS if job["kind"] == "JobSet" else JOBS
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    # By pod: the time of the last line that was yielded, and how many lines had that time.
    yielded: dict[str, tuple[str, int]] = {}
    finished: set[str] = set()
    outage = OutageTolerance()
    while True:
        # The job before its pods: if it has ended, every line can be read then.
        with outage.tolerate():
            now = cluster.get(resource, name)
            ended = now is None or now["metadata"]["uid"] != uid or phase(now) in ENDS
            existing = [pod for pod in pods(cluster, job) if worker(pod) == index]
        if outage.since:
            time.sleep(poll_seconds)
            continue
        for pod in reversed([pod for pod in existing if pod is existing[0] or pod["metadata"]["uid"] in yielded]):
            own = pod["metadata"]["uid"]
            if not _has_begun(pod) or own in finished:
                continue
            if yielded and own not in yielded:
                yield f"--- started again, {pod['metadata']['name']} ---"
            # The logs of a pod cannot be read once its machine is gone; the job may go on elsewhere.
            with contextlib.suppress(exits.TryAgain):
                yield from _new_lines(cluster, pod, yielded)
            if pod["status"]["phase"] in _OVER:
                finished.add(own)
        if ended:
            return
        time.sleep(poll_seconds)


def _new_lines(cluster: Cluster, pod: Object, yielded: dict[str, tuple[str, int]]) -> Iterator[str]:
    """The lines of a pod after those that were yielded, until it ends or the connection breaks.

    The server can leave out whole seconds only, so the lines of the last second come again and are skipped.
    """
    uid = pod["metadata"]["uid"]
    last, count = yielded.setdefault(uid, ("", 0))
    seen = 0  # of the lines with the time `last`
    for moment, line in cluster.log(pod["metadata"]["name"], manifest.CONTAINER, since=last, follow=True):
        if moment < last:
            continue
        if moment == last:
            seen += 1
            if seen <= count:
                continue
        else:
            last = moment
            seen = 1
            count = 0
        yielded[uid] = last, seen
        yield line


def _has_begun(pod: Object) -> bool:
    """Whether its container has a log."""
    containers = pod.get("status", {}).get("containerStatuses") or []
    return any(container.get("state", {}).keys() & {"running", "terminated"} for container in containers)
