"""The state of a JobSet or Job of Convoy: its own status first, then why it waits, or why it ended."""

from __future__ import annotations

from convoy import exits
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, JobState
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.api import Cluster
from convoy.launch.targets.kubernetes.conditions import last_start, phase, pods, seconds
from convoy.launch.targets.kubernetes.documents import Object
from convoy.launch.targets.kubernetes.reasons import deaths, why_failed, why_waiting
from convoy.outside import printable

LEAVING = f"its pods have {manifest.GRACE_SECONDS} s to save and leave"


# Reading an object raises these if somebody else wrote it in place of one of Convoy's.
_ODD = (exits.BadData, KeyError, IndexError, TypeError, ValueError, AttributeError)


def state(cluster: Cluster, job: Object) -> JobState:
    """The state of a job now; `job` is the JobSet or Job. Raises BadData if it, or one of its pods, is not Convoy's."""
    try:
        return _state(cluster, job)
    except _ODD as error:
        kind, name = job["kind"].lower(), job["metadata"]["name"]
        look = cluster.kubectl("get", f"{kind},pods", f"--selector={manifest.INSTANCE}={name}", "--output=yaml")
        raise exits.BadData(
            f"{kind} {name} does not read as a job of Convoy's ({printable(str(error).rstrip('.'))}); look with `{look}`."
        ) from error


def state_or_why(cluster: Cluster, job: Object) -> JobState:
    """As `state`, but an object that does not read as a job is listed too, with the reason."""
    try:
        return state(cluster, job)
    except exits.BadData as error:
        return JobState(job["metadata"]["name"], PENDING, str(error))


def _state(cluster: Cluster, job: Object) -> JobState:
    meta = job["metadata"]
    what = phase(job)
    reason = ""
    code = exits.OK if what == SUCCEEDED else None
    try:
        if what == FAILED:
            reason, code = why_failed(cluster, job)
        elif what == CANCELLED:
            reason = LEAVING
        elif what in (PENDING, RESTARTING):
            what, reason = _why_not_running(cluster, job, what)
    except exits.CannotRun as error:  # a person may be permitted to see the job, but not its pods, events or workload
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
    """(phase, a sentence) of a job whose own status says `what`: the controllers may not have noticed a death yet."""
    existing = [] if job["spec"].get("suspend") else pods(cluster, job)
    cause = min(deaths(last_start(existing)), default=None)
    if cause is None:
        return what, why_waiting(cluster, job, existing)
    again = cause.restarts and job["kind"] == "JobSet"
    return RESTARTING if again else RUNNING, f"worker {cause.worker} {cause.how}"
