"""What the controllers of a cluster would do to a job, written onto a KubeServer by a test."""

from __future__ import annotations

from typing import Any

from kube_handler import Object, now
from kube_server import KubeServer

WORKERS = 2


class Life:
    """Of one job on a server; `plural` is jobsets or jobs."""

    def __init__(self, server: KubeServer, name: str, plural: str = "jobsets"):
        self.server, self.name, self.plural = server, name, plural
        self.attempt = 0

    @property
    def job(self) -> Object:
        return self.server.one(self.plural, self.name)

    def status(self, **fields: Any) -> None:
        """Replaces fields of its status."""
        self.server.put({**self.job, "status": {**self.job.get("status", {}), **fields}})

    def condition(self, kind: str, message: str = "", holds: bool = True, reason: str = "Reason") -> None:
        self.status(conditions=[condition(kind, message, holds, reason)])

    def ready(self, ready: int, succeeded: int = 0) -> None:
        """How many Jobs of the JobSet, or pods of the Job, are."""
        if self.plural == "jobs":
            self.status(active=ready, ready=ready, succeeded=succeeded, failed=0)
            return
        counts = {"ready": ready, "succeeded": succeeded, "active": ready, "failed": 0, "suspended": 0}
        self.status(replicatedJobsStatus=[{"name": "worker", **counts}], restarts=self.attempt)

    def child(self) -> Object:
        """The Job that a JobSet made."""
        meta = {**self._owned(f"{self.name}-worker-0"), "labels": {"jobset.sigs.k8s.io/jobset-name": self.name}}
        spec = self.job["spec"]["replicatedJobs"][0]["template"]["spec"]
        return self.server.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})

    def pod(self, worker: int, phase: str = "Running", state: Object | None = None, **status: Any) -> Object:
        """A worker's pod of this attempt; `state` of its container."""
        labels = {"batch.kubernetes.io/job-completion-index": str(worker)}
        if self.plural == "jobsets":
            labels |= {
                "jobset.sigs.k8s.io/jobset-name": self.name,
                "jobset.sigs.k8s.io/restart-attempt": str(self.attempt),
            }
            template, job = (
                self.job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"],
                f"{self.name}-worker-0",
            )
        else:
            labels["batch.kubernetes.io/job-name"] = self.name
            template, job = self.job["spec"]["template"], self.name
        meta = self._owned(f"{job}-{worker}-{self.attempt}zzzz")
        meta |= {"labels": labels, "annotations": {"batch.kubernetes.io/job-completion-index": str(worker)}}
        if state is None and phase == "Running":
            state = {"running": {"startedAt": now()}}
        if state is not None:
            container = {
                "name": "trainer",
                "image": "i",
                "imageID": "",
                "ready": True,
                "restartCount": 0,
                "state": state,
            }
            status["containerStatuses"] = [container]
        return self.server.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": template["spec"],
                "status": {"phase": phase, **status},
            }
        )

    def dies(self, worker: int, code: int, when: str = "2026-11-25T10:00:00Z", reason: str = "Error") -> Object:
        end = {"exitCode": code, "reason": reason, "finishedAt": when}
        return self.pod(worker, "Failed" if code else "Succeeded", {"terminated": end})

    def restart(self) -> None:
        """As BlockingRecreate does: all pods go before the next come."""
        for key in [key for key in self.server.objects if key[0] == "pods"]:
            self.server.forget(*key)
        self.attempt += 1

    def event(self, about: Object, message: str, reason: str = "FailedCreate") -> Object:
        meta = {"name": f"{about['metadata']['name']}.{reason.lower()}", "namespace": "default"}
        who = {
            "kind": about["kind"],
            "name": about["metadata"]["name"],
            "uid": about["metadata"]["uid"],
            "namespace": "default",
        }
        event = {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": who, "type": "Warning"}
        return self.server.put({**event, "reason": reason, "message": message, "lastTimestamp": now()})

    def workload(self, version: str = "v1beta2", **status: Any) -> Object:
        meta = {
            **self._owned(f"jobset-{self.name}-1a2b3"),
            "labels": {"kueue.x-k8s.io/job-uid": self.job["metadata"]["uid"]},
        }
        return self.server.put(
            {
                "apiVersion": f"kueue.x-k8s.io/{version}",
                "kind": "Workload",
                "metadata": meta,
                "spec": {},
                "status": status,
            }
        )

    def _owned(self, name: str) -> Object:
        owner = {
            "apiVersion": self.job["apiVersion"],
            "kind": self.job["kind"],
            "name": self.name,
            "uid": self.job["metadata"]["uid"],
        }
        return {"name": name, "namespace": "default", "ownerReferences": [owner]}


def condition(kind: str, message: str, holds: bool = True, reason: str = "Reason") -> Object:
    status = "True" if holds else "False"
    return {"type": kind, "status": status, "message": message, "reason": reason, "lastTransitionTime": now()}
