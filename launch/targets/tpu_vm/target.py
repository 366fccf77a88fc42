"""Jobs on Cloud TPU VMs: a queued resource each, by the official client; gcloud is not needed.

A queued resource that was refused or preempted cannot be used again. When the same job is submitted again, the resource is
deleted, and once it is gone another one is created for the next attempt. The machines do the rest (boot.py).

Tested against a server on the loopback interface that speaks the API's version 2. No job of Convoy has met Cloud TPU yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from convoy import exits
from convoy.launch.job import JobSpec
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, RUNNING, JobState, NoSuchJob, check_worker
from convoy.launch.targets.tpu_vm import boot, bundle, request
from convoy.launch.targets.tpu_vm.api import TpuApi
from convoy.launch.targets.tpu_vm.request import is_job, job_of
from convoy.launch.targets.tpu_vm.status import attempt_folder, state, state_or_why
from convoy.outside import below
from convoy.store import open_store

GRACE_SECONDS = 150.0  # from asking the workers to stop to deleting the machines
_SEAM_BYTES = 4096
_MAX_LOG_BYTES = 2 * boot.LOG_BYTES  # it may grow while a machine reads the end of it


class TpuVmTarget:
    """The jobs of one zone of a project; `client` is for tests."""

    poll_seconds = 5.0

    def __init__(self, project: str, zone: str, client: Any = None):
        self._api = TpuApi(project, zone, self.poll_seconds, client)

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        request.check(spec)
        attempt = 0
        now = None
        existing = self._api.find(spec.name)
        if existing is not None:
            job = job_of(existing)
            if not job:
                raise exits.CannotRun(
                    f"there is a queued resource {spec.name} in {self._api.zone} that is not Convoy's; give another --name."
                )
            now = state_or_why(self._api, existing)
            if now.digest != spec.digest and not replace:
                raise exits.CannotRun(
                    f"there is another job {spec.name} in {self._api.zone}, {now.phase}; give another --name, or --replace to"
                    " end that one first."
                )
            if now.digest == spec.digest:
                if now.phase not in (FAILED, CANCELLED):
                    return now
                attempt = job["attempt"] + 1
        # Before any job is ended: both may refuse.
        code = bundle.build(spec.run.model, spec.run.backend)
        resource = request.request(spec, attempt, code)
        if now is not None:
            if now.phase not in ENDS:
                self.cancel(spec.name)
            self._api.delete(spec.name)
        bucket = request.bucket(spec)
        folder = request.folder(spec)
        if attempt == 0:  # reports of an older job of this name
            open_store(bucket).remove(folder)
        code.upload(f"{bucket}/{folder}")
        self._api.create(spec.name, resource)
        return self.state(spec.name)

    def state(self, name: str) -> JobState:
        return state(self._api, self._need(name))

    def jobs(self) -> list[JobState]:
        return [state_or_why(self._api, resource) for resource in self._api.resources() if is_job(resource)]

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        """The log in the bucket, up to ten seconds old: at most the last 4 MB of an attempt."""
        job = job_of(self._need(name))
        check_worker(worker, name, job["workers"])
        store = open_store(job["bucket"])
        log = below(attempt_folder(job), f"worker-{worker}.log")
        before = b""
        outage = OutageTolerance()
        while True:
            with outage.tolerate(enabled=follow):
                resource = self._api.find(name) if follow else None
                ended = resource is None or state(self._api, resource).phase in ENDS
                try:
                    now = store.get(log, max_bytes=_MAX_LOG_BYTES)
                except FileNotFoundError:
                    now = b""
            if outage.since:
                time.sleep(self.poll_seconds)
                continue
            if not ended:
                now = now[: now.rfind(b"\n") + 1]  # an incomplete line is read again later
            yield from later(before, now).decode(errors="replace").splitlines()
            if ended:
                return
            before = now
            time.sleep(self.poll_seconds)

    def cancel(self, name: str) -> JobState:
        resource = self._need(name)
        now = state_or_why(self._api, resource)
        job = job_of(resource)
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
        resource = self._need(name)
        if state(self._api, resource).phase not in ENDS:
            raise exits.CannotRun(f"{name} has not ended; `convoy launch cancel --name={name}` ends it.")
        self._api.delete(name)
        job = job_of(resource)
        open_store(job["bucket"]).remove(job["folder"])

    def describe(self, spec: JobSpec) -> str:
        request.check(spec)
        return request.describe(spec, bundle.build(spec.run.model, spec.run.backend))

    def _need(self, name: str) -> Any:
        resource = self._api.find(name)
        if resource is None or not job_of(resource):
            project = self._api.project
            zone = self._api.zone
            raise NoSuchJob(
                f"there is no job {name} in {zone} of project {project}; `convoy launch list --target=tpu-vm"
                f" --project={project} --zone={zone}` lists what there is."
            )
        return resource


def later(before: bytes, now: bytes) -> bytes:
    """The part of the end of a log that an earlier read of its end did not have; all of it if they do not overlap."""
    if now.startswith(before):
        return now[len(before) :]
    seam = before[-_SEAM_BYTES:]
    position = now.rfind(seam)
    return now[position + len(seam) :] if position >= 0 else now
