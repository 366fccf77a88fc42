"""What a JobSet or Job of ours is doing: its own status first, then why it waits, or why it ended."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from convoy import exits, supervise
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, JobState
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.api import EVENTS, JOBS, PODS, WORKLOADS, Cluster
from convoy.launch.targets.kubernetes.documents import Object, job_spec
from convoy.outside import printable

JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"
_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
_INDEX = "batch.kubernetes.io/job-completion-index"
_JOB_NAME = "batch.kubernetes.io/job-name"
_STARTING = ("ContainerCreating", "PodInitializing")
_EXIT_CODE = re.compile(r"exit code (\d+)")
_KILLED, _TERMINATED = 128 + 9, 128 + 15
LEAVING = f"its pods have {manifest.GRACE_SECONDS} s to save and leave"


# What an object raises that somebody else wrote in the place of one of Convoy's.
_ODD = (exits.BadData, KeyError, IndexError, TypeError, ValueError, AttributeError)


def state(cluster: Cluster, job: Object) -> JobState:
    """All that is known of a job now; `job` is the JobSet or Job. BadData if it, or one of its pods, is not Convoy's."""
    try:
        return _state(cluster, job)
    except _ODD as error:
        kind, name = job["kind"].lower(), job["metadata"]["name"]
        look = cluster.kubectl("get", f"{kind},pods", f"--selector={manifest.INSTANCE}={name}", "--output=yaml")
        raise exits.BadData(
            f"{kind} {name} does not read as a job of Convoy's ({printable(str(error).rstrip('.'))}); look with `{look}`."
        ) from error


def state_or_why(cluster: Cluster, job: Object) -> JobState:
    """As `state`; what does not read as a job is listed beside the others, with the reason."""
    try:
        return state(cluster, job)
    except exits.BadData as error:
        return JobState(job["metadata"]["name"], PENDING, str(error))


def _state(cluster: Cluster, job: Object) -> JobState:
    meta, what = job["metadata"], phase(job)
    reason, code = "", exits.OK if what == SUCCEEDED else None
    try:
        if what == FAILED:
            reason, code = why_failed(cluster, job)
        elif what == CANCELLED:
            reason = LEAVING
        elif what in (PENDING, RESTARTING):
            what, reason = _why_not_running(cluster, job, what)
    except exits.CannotRun as error:  # who may not look at its pods, events or workload may well look at the job
        reason = f"why is not known here: {error}"
    annotations = meta.get("annotations") or {}
    return JobState(
        name=meta["name"],
        phase=what,
        reason=reason,
        restarts=job.get("status", {}).get("restarts", 0),
        digest=annotations.get(manifest.DIGEST, ""),
        run_dir=annotations.get(manifest.RUN_DIR, ""),
        exit_code=code,
        begun=seconds(meta["creationTimestamp"]),
    )


def _why_not_running(cluster: Cluster, job: Object, what: str) -> tuple[str, str]:
    """(its phase, a sentence) of one whose own status says `what`: the controllers may not yet have drawn their conclusions."""
    found = [] if job["spec"].get("suspend") else pods(cluster, job)
    cause = min(_deaths(last_start(found)), default=None)
    if cause is None:
        return what, why_waiting(cluster, job, found)
    again = cause.again and job["kind"] == "JobSet"
    return RESTARTING if again else RUNNING, f"worker {cause.worker} {cause.how}"


def phase(job: Object) -> str:
    """By the object's own status. Not by its pods or child Jobs: those fail and go while JobSet restarts them."""
    status = job.get("status", {})
    ended = status.get("terminalState")  # of a JobSet
    if ended == "Completed" or _holds(job, "Completed") or _holds(job, "Complete"):
        return SUCCEEDED
    if ended == "Failed" or _holds(job, "Failed"):
        return FAILED
    if "deletionTimestamp" in job["metadata"]:
        return CANCELLED
    if job["spec"].get("suspend"):
        return PENDING
    if _holds(job, "RestartingJobSet"):
        return RESTARTING
    if _all_there(job):
        return RUNNING
    return RESTARTING if status.get("restarts") else PENDING


def pods(cluster: Cluster, job: Object) -> list[Object]:
    """Those that still exist, of the last attempt first, in it by worker."""
    label = JOBSET_NAME if job["kind"] == "JobSet" else _JOB_NAME
    found = cluster.list(PODS, labels=f"{label}={job['metadata']['name']}")
    return sorted(found, key=lambda pod: (-attempt(pod), worker(pod)))


def last_start(found: list[Object]) -> list[Object]:
    """Those of the last attempt; `found` as `pods` gives them."""
    return [pod for pod in found if attempt(pod) == attempt(found[0])]


def worker(pod: Object) -> int:
    """Which worker a pod is, from 0."""
    return int((pod["metadata"].get("annotations") or {}).get(_INDEX, 0))


def attempt(pod: Object) -> int:
    """How often its job had begun again when it was made."""
    return int(pod["metadata"]["labels"].get(_ATTEMPT, 0))


def seconds(moment: str) -> float:
    """Kubernetes' time -> seconds since 1970."""
    return datetime.datetime.fromisoformat(moment).timestamp()


def why_waiting(cluster: Cluster, job: Object, found: list[Object]) -> str:
    """The first of these that says something: Kueue, the scheduler, a container that cannot start, whoever refuses its pods.

    Args:
      found: the job's pods, as `pods` gives them.
    """
    if reason := _admission(cluster, job):
        return reason
    begun_again = job.get("status", {}).get("restarts", 0)
    now = [pod for pod in found if attempt(pod) >= begun_again]
    if found and not now:
        return "the pods of its last start are leaving"
    for pod in now:
        for one in pod.get("status", {}).get("conditions") or []:
            if one["type"] == "PodScheduled" and one["status"] == "False":
                return f"worker {worker(pod)} finds no machine: {_text(one)}"
    for pod in now:
        for container in _containers(pod):
            held = container.get("state", {}).get("waiting", {})
            if held and held.get("reason") not in _STARTING:
                return f"worker {worker(pod)} cannot start: {held.get('reason')}, {_text(held)}"
    if len(now) == job_spec(job)["parallelism"]:
        trouble = _warning(cluster, now)
        return f"its containers do not start: {trouble}" if trouble else "its containers are starting"
    if trouble := _warning(cluster, [job, *_jobs(cluster, job)]):
        return f"its pods cannot be made: {trouble}"
    return "its pods are being made" if job.get("status") else "its controller has not seen it yet"


def why_failed(cluster: Cluster, job: Object) -> tuple[str, int | None]:
    """(a sentence, the exit code of `convoy train` where it is known)."""
    jobs = _jobs(cluster, job)
    if any(_condition(one, "Failed").get("reason") == "DeadlineExceeded" for one in jobs):
        return "it ran for as long as --hours allows; submitted again, it goes on", exits.TRY_AGAIN
    ended = _text(_condition(job, "Failed"))
    cause = min(_deaths(last_start(pods(cluster, job))), default=None)
    if cause is not None:
        return f"worker {cause.worker} {cause.how} ({ended})", supervise.exit_code(cause.code)
    for one in jobs:
        if found := _EXIT_CODE.search(_condition(one, "Failed").get("message", "")):
            return f"a worker ended with exit code {found[1]} ({ended})", supervise.exit_code(int(found[1]))
    return ended, None


class _Death(NamedTuple):
    """How a worker came to its end. The least of several is the cause of the others.

    What is permanent ends a job whatever else happened; of what is not, the first made its peers fail.
    """

    again: bool  # whether it is worth another try
    when: str
    worker: int
    code: int
    how: str


def _deaths(found: Iterable[Object]) -> Iterator[_Death]:
    for pod in found:
        lost = _condition(pod, "DisruptionTarget")
        if lost:
            yield _Death(True, lost["lastTransitionTime"], worker(pod), _TERMINATED, f"lost its machine: {_text(lost)}")
            continue
        for container in _containers(pod):
            end = container.get("state", {}).get("terminated") or {}
            code = end.get("exitCode", 0)
            if not code:
                continue
            if pod["status"].get("reason") == "Evicted":
                how = f"was evicted: {_text(pod['status'])}; give more --scratch if it is its disk that was full"
            elif end.get("reason") == "OOMKilled":
                how = "was killed, since it needed more memory than it may have; give more --memory"
            elif code == _KILLED:
                how = "was killed (137), which is what want of memory looks like; give more --memory if nobody did it"
            else:
                how = f"ended with exit code {code}"
            yield _Death(exits.worth_restarting(code), end.get("finishedAt") or "", worker(pod), code, how)


def _admission(cluster: Cluster, job: Object) -> str:
    """Why Kueue does not let it start; nothing if it does, or is not asked."""
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
    workload = next((found for kind in WORKLOADS for found in cluster.list(kind, labels=ours)), None)
    if workload is None:
        look = cluster.kubectl("get", "localqueue", queue)
        return f"Kueue has not seen it yet; `{look}` says whether there is the queue"
    if _holds(workload, "Evicted") and not _holds(workload, "QuotaReserved"):
        return f"Kueue took its machines back: {_text(_condition(workload, 'Evicted'))}"
    for one in workload.get("status", {}).get("conditions") or []:
        if one["type"] == "QuotaReserved" and one["status"] == "False":
            return f"it waits in queue {queue}: {_text(one)}"
    for check in workload.get("status", {}).get("admissionChecks") or []:
        if check.get("state") != "Ready":
            return f"queue {queue} waits for its check {check['name']}: {_text(check)}"
    return f"it waits in queue {queue}"


def _warning(cluster: Cluster, things: Iterable[Object]) -> str:
    """The last event that tells of trouble with one of these: a quota, a policy, a volume, a missing service account."""
    about = {one["metadata"]["uid"] for one in things}
    found = [one for one in cluster.list(EVENTS, fields="type=Warning") if one["involvedObject"].get("uid") in about]
    last = max(found, key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "", default=None)
    return "" if last is None else _text(last)


def _jobs(cluster: Cluster, job: Object) -> list[Object]:
    """The Job itself, or the Jobs of a JobSet."""
    if job["kind"] == "Job":
        return [job]
    return cluster.list(JOBS, labels=f"{JOBSET_NAME}={job['metadata']['name']}")


def _all_there(job: Object) -> bool:
    """Whether every worker runs, or has run."""
    status = job.get("status", {})
    if job["kind"] == "Job":
        return status.get("ready", 0) + status.get("succeeded", 0) >= job["spec"]["parallelism"]
    have = {one["name"]: one["ready"] + one["succeeded"] for one in status.get("replicatedJobsStatus") or []}
    return all(have.get(one["name"], 0) >= one.get("replicas", 1) for one in job["spec"]["replicatedJobs"])


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _condition(thing: Object, kind: str) -> Object:
    """The condition of that type if it holds, else nothing."""
    for one in thing.get("status", {}).get("conditions") or []:
        if one["type"] == kind and one["status"] == "True":
            return one
    return {}


def _holds(thing: Object, kind: str) -> bool:
    return bool(_condition(thing, kind))


def _text(told: Object) -> str:
    """What a condition, an event or a state says, on one line."""
    return printable(" ".join((told.get("message") or told.get("reason") or "no reason given").split()).rstrip("."))
