"""The state of a job on Cloud TPU: from its queued resource, its node, and the reports of its machines in the bucket.

    CREATING ACCEPTED WAITING_FOR_RESOURCES PROVISIONING   pending, with the reason
    ACTIVE, node there                                     pending until a worker runs, then running
    ACTIVE, node lost; SUSPENDING SUSPENDED                failed with 42: its machines were taken back
    FAILED                                                 failed: 42, or 78 if a quota is used up
    DELETING                                               cancelled

The workers' own reports of their end come first: the machines of a job that has ended are deleted, so it is SUSPENDED too.
Nothing here begins a job again; submitting the same job again does.
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
_MAX_BYTES = 1 << 20  # of a worker's report
_REPORT = {
    "phase": frozenset(boot.PHASES),
    "exit_code": EXIT_CODE,
    "restarts": RESTARTS,
    "reason": str,
    "updated": TIME,
}
SILENT_SECONDS = 600  # a running worker writes a report every minute


def state(api: TpuApi, resource: Any) -> JobState:
    """The state of a queued resource of Convoy's; exits.ConvoyError if the reports of its machines cannot be read."""
    job = job_of(resource)
    name = resource.name.rpartition("/")[2]
    now = resource.state.state.name
    reports = _reports(job) if now not in _WAITING else []
    restarts = job["attempt"] + max([report["restarts"] for report in reports], default=0)

    def at(phase: str, reason: str = "", code: int | None = None) -> JobState:
        return JobState(name, phase, reason, restarts, job["digest"], job["run_dir"], code, job["begun"])

    ended = [report for report in reports if report["phase"] == "ended"]
    for report in ended:
        if report["exit_code"] == exits.STOPPED:
            return at(CANCELLED, report["reason"])
        if report["exit_code"]:
            return at(FAILED, report["reason"], report["exit_code"])
    if ended and len(ended) == job["workers"]:
        return at(SUCCEEDED, " ".join(report["reason"] for report in ended if report["reason"]), exits.OK)
    if now in _WAITING:
        return at(PENDING, _WAITING[now])
    if now == "DELETING":
        return at(CANCELLED, "it is being deleted")
    if now == "FAILED":
        error = resource.state.failed_data.error
        if error.code == 8:
            return at(FAILED, quota(error.message, api.zone), exits.CANNOT_RUN)
        reason = one_line(error.message) or "the request was valid for --hours, and those are over"
        return at(FAILED, f"no machines: {reason}; submit it again to ask again", exits.TRY_AGAIN)
    if now == "ACTIVE":
        node = api.node(name)
        if node is not None and node.state.name not in _LOST:
            if running := [report for report in reports if report["phase"] == "running"]:
                silent = sum(time.time() - report["updated"] > SILENT_SECONDS for report in running)
                return at(
                    RUNNING,
                    f"{silent} of its workers {'have' if silent > 1 else 'has'} not reported for {SILENT_SECONDS // 60} minutes"
                    if silent
                    else "",
                )
            if reports:
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


def state_or_why(api: TpuApi, resource: Any) -> JobState:
    """As `state`, but a job whose bucket refuses is pending, with the reason, so that it is listed and can be cancelled."""
    name = resource.name.rpartition("/")[2]
    try:
        job = job_of(resource)
    except exits.BadData as error:
        return JobState(name, PENDING, str(error))
    try:
        return state(api, resource)
    except (exits.CannotRun, exits.BadData) as error:
        reason = f"what its machines told cannot be read: {error}"
        return JobState(name, PENDING, reason, job["attempt"], job["digest"], job["run_dir"], begun=job["begun"])


def attempt_folder(job: dict[str, Any]) -> Name:
    """The folder within the bucket where the machines of an attempt report."""
    return below(job["folder"], str(job["attempt"]))


def _reports(job: dict[str, Any]) -> list[dict[str, Any]]:
    """worker-N.json of each worker that has written one."""
    store, folder = open_store(job["bucket"]), attempt_folder(job)

    def read(index: int) -> dict[str, Any] | None:
        name = below(folder, f"worker-{index}.json")
        try:
            return _status(store.get(name, max_bytes=_MAX_BYTES), f"{job['bucket']}/{name}")
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        return [report for report in readers.map(read, range(job["workers"])) if report]


def _status(data: bytes, source: str) -> dict[str, Any]:
    """worker-N.json, whoever wrote it."""
    report = shapes.check(parse_json(data, source), _REPORT, source)
    return {**report, "reason": printable(report["reason"])}
