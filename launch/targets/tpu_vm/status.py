"""What a job on Cloud TPU is doing: from its queued resource, its node, and what its machines told through the bucket.

    CREATING ACCEPTED WAITING_FOR_RESOURCES PROVISIONING   pending, and for what
    ACTIVE, node there                                     pending until a worker runs, then running
    ACTIVE, node lost; SUSPENDING SUSPENDED                failed with 42: its machines were taken back
    FAILED                                                 failed: 42, or 78 if a quota is used up
    DELETING                                               cancelled

What the workers told of their end comes first: the machines of a job that has ended are deleted, so it is SUSPENDED too.
Nothing here begins a job again; `convoy launch submit` does, when the same job is submitted again.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from convoy import exits, shapes
from convoy.launch.targets.base import (
    CANCELLED,
    EXIT_CODE,
    FAILED,
    PENDING,
    RESTARTS,
    RUNNING,
    SUCCEEDED,
    TIME,
    JobState,
)
from convoy.launch.targets.tpu_vm import boot
from convoy.launch.targets.tpu_vm.api import TpuApi, one_line, quota
from convoy.launch.targets.tpu_vm.request import job_of
from convoy.outside import Name, below, parse_json, printable
from convoy.store import open_store

_WAITING = {
    "CREATING": "the request is looked at",
    "ACCEPTED": "the request is in the queue",
    "WAITING_FOR_RESOURCES": "no machines are free in that zone yet",
    "PROVISIONING": "the machines are being made",
}
_LOST = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING", "HIDING", "HIDDEN")
_READERS = 16
_MAX_BYTES = 1 << 20  # of what a worker tells
_TOLD = {
    "phase": frozenset(boot.PHASES),
    "exit_code": EXIT_CODE,
    "restarts": RESTARTS,
    "reason": str,
    "updated": TIME,
}
SILENT_SECONDS = 600  # of a running worker, which tells something every minute


def state(api: TpuApi, found: Any) -> JobState:
    """Of a queued resource that is Convoy's; exits.ConvoyError if what its machines told cannot be read."""
    job, name, now = job_of(found), found.name.rpartition("/")[2], found.state.state.name
    told = _told(job) if now not in _WAITING else []
    restarts = job["attempt"] + max([one["restarts"] for one in told], default=0)

    def at(phase: str, reason: str = "", code: int | None = None) -> JobState:
        return JobState(name, phase, reason, restarts, job["digest"], job["run_dir"], code, job["begun"])

    ended = [one for one in told if one["phase"] == "ended"]
    for one in ended:
        if one["exit_code"] == exits.STOPPED:
            return at(CANCELLED, one["reason"])
        if one["exit_code"]:
            return at(FAILED, one["reason"], one["exit_code"])
    if ended and len(ended) == job["workers"]:
        return at(SUCCEEDED, " ".join(one["reason"] for one in ended if one["reason"]), exits.OK)
    if now in _WAITING:
        return at(PENDING, _WAITING[now])
    if now == "DELETING":
        return at(CANCELLED, "it is being deleted")
    if now == "FAILED":
        error = found.state.failed_data.error
        if error.code == 8:
            return at(FAILED, quota(error.message, api.zone), exits.CANNOT_RUN)
        reason = one_line(error.message) or "the request was valid for --hours, and those are over"
        return at(FAILED, f"no machines: {reason}; submit it again to ask again", exits.TRY_AGAIN)
    if now == "ACTIVE":
        node = api.node(name)
        if node is not None and node.state.name not in _LOST:
            if any(one["phase"] == "running" for one in told):
                silent = sum(time.time() - one["updated"] > SILENT_SECONDS for one in told if one["phase"] == "running")
                return at(
                    RUNNING,
                    f"{silent} of its workers told nothing for {SILENT_SECONDS // 60} minutes" if silent else "",
                )
            if told:
                return at(PENDING, "the machines install what the run needs")
            return at(
                PENDING,
                f"the machines start; should that last, their service account may not write to {job['bucket']}: `gcloud"
                f" compute tpus tpu-vm ssh {name} --project={api.project} --zone={api.zone} --command='journalctl -u convoy'`"
                " says it",
            )
        now = "PREEMPTED" if node is None else node.state.name
    elif now not in ("SUSPENDING", "SUSPENDED"):
        return at(PENDING, f"its state, {now}, is not known here")
    return at(FAILED, f"its machines were taken back ({now.lower()}); submit it again to go on", exits.TRY_AGAIN)


def state_or_why(api: TpuApi, found: Any) -> JobState:
    """As `state`; a job whose bucket refuses is pending, with the reason, so that it is listed and can be cancelled."""
    name = found.name.rpartition("/")[2]
    try:
        job = job_of(found)
    except exits.BadData as error:
        return JobState(name, PENDING, str(error))
    try:
        return state(api, found)
    except (exits.CannotRun, exits.BadData) as error:
        reason = f"what its machines told cannot be read: {error}"
        return JobState(name, PENDING, reason, job["attempt"], job["digest"], job["run_dir"], begun=job["begun"])


def attempt_folder(job: dict[str, Any]) -> Name:
    """Where the machines of an attempt tell how it goes, within the bucket."""
    return below(job["folder"], str(job["attempt"]))


def _told(job: dict[str, Any]) -> list[dict[str, Any]]:
    """worker-N.json of each worker that has told something."""
    store, folder = open_store(job["bucket"]), attempt_folder(job)

    def read(index: int) -> dict[str, Any] | None:
        name = below(folder, f"worker-{index}.json")
        try:
            return _status(store.get(name, max_bytes=_MAX_BYTES), f"{job['bucket']}/{name}")
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        return [one for one in readers.map(read, range(job["workers"])) if one]


def _status(data: bytes, source: str) -> dict[str, Any]:
    """worker-N.json, whoever wrote it."""
    found = shapes.check(parse_json(data, source), _TOLD, source)
    return {**found, "reason": printable(found["reason"])}
