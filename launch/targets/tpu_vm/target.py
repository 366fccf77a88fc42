"""Jobs on Cloud TPU VMs: a queued resource each, by the official client; gcloud is not needed.

A queued resource that was taken back, refused or preempted is never mended: when the same job is submitted again it is deleted,
waited for until it is gone, and made again with the next attempt's label. The machines look after the rest (boot.py).

Shown against a server on the loopback interface that speaks the API's version 2. No job of Convoy has met Cloud TPU yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from convoy import exits
from convoy.launch.job import JobSpec
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, RUNNING, JobState, NoSuchJob
from convoy.launch.targets.tpu_vm import boot, bundle, request
from convoy.launch.targets.tpu_vm.api import TpuApi
from convoy.launch.targets.tpu_vm.request import is_job, job_of
from convoy.launch.targets.tpu_vm.status import attempt_folder, state, state_or_why
from convoy.outside import below
from convoy.store import open_store

GRACE_SECONDS = 150.0  # from the wish to cancel to the end of the machines
_SEAM_BYTES = 4096
_MAX_LOG_BYTES = 2 * boot.LOG_BYTES  # it may grow while a machine reads the end of it


class TpuVmTarget:
    """The jobs of one zone of a project; `client` is for tests."""

    poll_seconds = 5.0

    def __init__(self, project: str, zone: str, client: Any = None):
        self._api = TpuApi(project, zone, self.poll_seconds, client)

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        request.check(spec)
        attempt, now, before = 0, None, self._api.find(spec.name)
        if before is not None:
            job = job_of(before)
            if not job:
                raise exits.CannotRun(
                    f"there is a queued resource {spec.name} in {self._api.zone} that is not Convoy's; give another --name."
                )
            now = state_or_why(self._api, before)
            if now.digest != spec.digest and not replace:
                raise exits.CannotRun(
                    f"there is another job {spec.name} in {self._api.zone}, {now.phase}; give another --name, or --replace to"
                    " end that one first."
                )
            if now.digest == spec.digest:
                if now.phase not in (FAILED, CANCELLED):
                    return now
                attempt = job["attempt"] + 1
        # Before anything is ended: both may refuse.
        code = bundle.build(spec.run.model, spec.run.backend)
        resource = request.request(spec, attempt, code)
        if now is not None:
            if now.phase not in ENDS:
                self.cancel(spec.name)
            self._api.delete(spec.name)
        bucket, folder = request.bucket(spec), request.folder(spec)
        if attempt == 0:  # what an older job of this name told
            open_store(bucket).remove(folder)
        code.upload(f"{bucket}/{folder}")
        self._api.create(spec.name, resource)
        return self.state(spec.name)

    def state(self, name: str) -> JobState:
        return state(self._api, self._need(name))

    def jobs(self) -> list[JobState]:
        return [state_or_why(self._api, found) for found in self._api.resources() if is_job(found)]

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        """What the machine put into the bucket last, up to ten seconds old: no more than the last 4 MB of each attempt."""
        job = job_of(self._need(name))
        if not 0 <= worker < job["workers"]:
            raise exits.CannotRun(f"--worker={worker} is none of the {job['workers']} of {name}, which count from 0.")
        store, log, before = open_store(job["bucket"]), below(attempt_folder(job), f"worker-{worker}.log"), b""
        outage = OutageTolerance()
        while True:
            with outage.tolerate(enabled=follow):
                found = self._api.find(name) if follow else None
                over = found is None or state(self._api, found).phase in ENDS
                try:
                    now = store.get(log, max_bytes=_MAX_LOG_BYTES)
                except FileNotFoundError:
                    now = b""
            if outage.since:
                time.sleep(self.poll_seconds)
                continue
            if not over:
                now = now[: now.rfind(b"\n") + 1]  # a line that is not whole yet comes with the next look
            yield from later(before, now).decode(errors="replace").splitlines()
            if over:
                return
            before = now
            time.sleep(self.poll_seconds)

    def cancel(self, name: str) -> JobState:
        found = self._need(name)
        now, job = state_or_why(self._api, found), job_of(found)
        if now.phase in ENDS:
            return now
        store = open_store(job["bucket"])
        if now.phase == RUNNING:
            store.put(below(attempt_folder(job), "cancel"), b"")
            deadline = time.monotonic() + GRACE_SECONDS
            while (now := self.state(name)).phase == RUNNING and time.monotonic() < deadline:
                time.sleep(self.poll_seconds)
            if now.phase in ENDS and now.phase != CANCELLED:
                return now
        self._api.delete(name)
        reason = "its machines are gone"
        try:
            store.remove(job["folder"])
        except exits.ConvoyError as error:
            reason += f"; its code and status are not: {error}"
        return JobState(name, CANCELLED, reason, now.restarts, now.digest, now.run_dir)

    def remove(self, name: str) -> None:
        found = self._need(name)
        if state(self._api, found).phase not in ENDS:
            raise exits.CannotRun(f"{name} has not ended; `convoy launch cancel --name={name}` ends it.")
        self._api.delete(name)
        open_store(job_of(found)["bucket"]).remove(job_of(found)["folder"])

    def describe(self, spec: JobSpec) -> str:
        request.check(spec)
        return request.describe(spec, bundle.build(spec.run.model, spec.run.backend))

    def _need(self, name: str) -> Any:
        found = self._api.find(name)
        if found is None or not job_of(found):
            project, zone = self._api.project, self._api.zone
            raise NoSuchJob(
                f"there is no job {name} in {zone} of project {project}; `convoy launch list --target=tpu-vm"
                f" --project={project} --zone={zone}` lists what there is."
            )
        return found


def later(before: bytes, now: bytes) -> bytes:
    """What the end of a log has that an earlier end of the same log had not: all of it if the two have nothing in common."""
    if now.startswith(before):
        return now[len(before) :]
    seam = before[-_SEAM_BYTES:]
    place = now.rfind(seam)
    return now[place + len(seam) :] if place >= 0 else now
