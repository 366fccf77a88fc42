"""A server on the loopback interface that speaks as much of Kubernetes' API as Convoy and kubectl need.

It keeps objects, refuses those that the schemas of Kubernetes and of JobSet refuse, selects, watches, deletes what belongs to
what is deleted, and streams logs. It has no controllers: what those would do to an object, a test writes (kube_lives.py).

    with KubeServer(jobset="0.12.0") as server:
        server.write_kubeconfig(path)
        server.fault(429, times=2, headers={"Retry-After": "1"})
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kube_handler import JOBSET, REASONS, Handler, Object, Server, failure, now

KUBERNETES = "1.33"  # whose schemas the core's objects have to fit
TOKEN = "a-token-that-no-log-may-show"
# group/version -> plural -> kind. The groups of add-ons are there when they are installed.
CORE = {
    "v1": {
        "pods": "Pod",
        "services": "Service",
        "serviceaccounts": "ServiceAccount",
        "events": "Event",
        "namespaces": "Namespace",
    },
    "batch/v1": {"jobs": "Job"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "authorization.k8s.io/v1": {"selfsubjectaccessreviews": "SelfSubjectAccessReview"},
}
_QUEUES = {"workloads": "Workload", "localqueues": "LocalQueue"}
KUEUE = {"kueue.x-k8s.io/v1beta2": _QUEUES, "kueue.x-k8s.io/v1beta1": _QUEUES}


@dataclass
class Fault:
    """What happens to the next `times` requests that fit, instead of an answer."""

    status: int  # 0: the connection is closed without an answer
    method: str
    path: str  # a regular expression that is found in path and query
    times: int
    body: Object | str
    headers: dict[str, str]
    seconds: float  # until then nothing comes


@dataclass
class Log:
    """What a container printed: (time, line) of each."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    over: bool = False


class KubeServer:
    """Serves until the end of the `with`.

    Args:
      jobset: the version of JobSet whose schema is in force; empty: JobSet is not installed.
      kueue: whether Kueue is.
      check: (version, object) -> what the schema of JobSet finds wrong.
    """

    def __init__(self, check: Callable[[str, Object], list[str]], jobset: str = "0.12.0", kueue: bool = True):
        self.check, self.jobset = check, jobset
        self.groups = {**CORE, **(JOBSET if jobset else {}), **(KUEUE if kueue else {})}
        self.namespaces = {"default", "team"}
        self.objects: dict[tuple[str, str, str], Object] = {}  # by plural, namespace, name
        self.logs: dict[str, Log] = {}  # by pod
        self.forbidden: set[tuple[str, str]] = set()  # verb, plural
        self.token = TOKEN  # empty: anybody may ask. kubectl sends none over a connection without TLS
        self.seen: list[str] = []  # METHOD path?query
        self.openapi: Object = {}
        self.version = {"major": "1", "minor": "33", "gitVersion": "v1.33.4-gke.1"}
        self.linger = 0  # an object that is deleted is gone once it was asked for so often
        self.on_get: Callable[[Object], None] = lambda found: None  # plays the controllers
        self.cut_logs = 0  # so many connections to logs break after a line
        self._faults: list[Fault] = []
        self._revision = 0
        self.changed = threading.Condition()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.kube = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> KubeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_kubeconfig(self, path: Path, token: str = TOKEN, server: str = "", namespace: str = "default") -> Path:
        """Contexts `here`, the current one, and `there`, the same cluster."""
        context = {"cluster": "c", "user": "u", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": server or self.url}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": name, "context": context} for name in ("here", "there")],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def fault(
        self,
        status: int,
        message: str = "",
        *,
        method: str = "",
        path: str = "",
        times: int = 1,
        seconds: float = 0.0,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        """`more` are other fields of the Status that comes with it: reason, details."""
        body = failure(status, message or REASONS.get(status, "refused"), **more) if status else {}
        self._faults.append(Fault(status, method, path, times, body, headers or {}, seconds))

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.changed:
            for fault in self._faults:
                if fault.times and fault.method in ("", method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def put(self, thing: Object) -> Object:
        """Stores an object as a controller does, and tells those that watch."""
        plural = next(p for kinds in self.groups.values() for p, kind in kinds.items() if kind == thing["kind"])
        meta = thing["metadata"]
        meta.setdefault("namespace", "default")
        with self.changed:
            before = self.objects.get((plural, meta["namespace"], meta["name"]), {"metadata": {}})["metadata"]
            meta.setdefault("uid", before.get("uid", str(uuid.uuid4())))
            meta.setdefault("creationTimestamp", before.get("creationTimestamp", now()))
            self._revision += 1
            meta["resourceVersion"] = str(self._revision)
            self.objects[plural, meta["namespace"], meta["name"]] = thing
            self.changed.notify_all()
        if wrong := self.errors(thing):
            raise AssertionError(f"no cluster would have this: {wrong}")
        return thing

    def one(self, plural: str, name: str, namespace: str = "default") -> Object:
        return self.objects[plural, namespace, name]

    def errors(self, thing: Object) -> list[str]:
        """What the schema of its kind finds wrong with an object."""
        if thing["kind"] == "JobSet":
            return self.check(self.jobset, thing)
        if thing["kind"] in ("Workload", "LocalQueue"):
            return []
        from kube_schemas import errors

        return errors(thing, KUBERNETES)

    def say(self, pod: str, *lines: str, over: bool = False) -> None:
        """A container prints. Each line has a time of its own, but for those that begin with a space: the time of the last."""
        with self.changed:
            log = self.logs.setdefault(pod, Log())
            for line in lines:
                second = len(log.lines) // 3  # so that a second has several
                moment = f"2026-11-25T10:00:{second:02d}.{len(log.lines):09d}Z"
                log.lines.append((log.lines[-1][0] if line.startswith(" ") else moment, line))
            log.over = over
            self.changed.notify_all()

    def forget(self, plural: str, namespace: str, name: str) -> None:
        """An object is gone, and with it all that it owns."""
        with self.changed:
            gone = self.objects.pop((plural, namespace, name), None)
            self._revision += 1
            self.changed.notify_all()
        if gone is None:
            return
        for key, other in list(self.objects.items()):
            owners = other["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                self.forget(*key)
