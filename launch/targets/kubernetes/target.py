"""Jobs in a Kubernetes cluster: a JobSet, or an Indexed Job with its Service. By the official client; kubectl is not needed.

Tested against a server on the loopback interface that checks every object by the schemas of JobSet and of Kubernetes, with
this client and with the real kubectl. No job of Convoy has met a real cluster yet.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator

from convoy import exits, options
from convoy.launch import shell
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, SUCCEEDED, JobState, NoSuchJob

try:
    from convoy.launch.targets.kubernetes import conditions, documents, logs, manifest, status
    from convoy.launch.targets.kubernetes.api import (
        JOBS,
        JOBSETS,
        NETWORK_POLICIES,
        SERVICE_ACCOUNTS,
        SERVICES,
        Cluster,
        Resource,
    )
    from convoy.launch.targets.kubernetes.documents import Object
    from convoy.launch.targets.kubernetes.errors import kubectl
except ModuleNotFoundError as error:
    raise exits.CannotRun(
        f"--target=k8s needs the package {error.name}, which is not here; run `pip install 'keras-convoy[launch]'`."
    ) from None

# Until a deleted job is gone: its pods have their grace period to save and leave, and controllers need some time.
GONE_SECONDS = manifest.GRACE_SECONDS + 60.0
_OURS = f"app.kubernetes.io/managed-by=convoy,!{conditions.JOBSET_NAME}"


class KubernetesTarget:
    """The jobs of one namespace.

    Args:
      namespace: of the cluster.
      context: of the kubeconfig; empty: its current one.
    """

    poll_seconds = 2.0

    def __init__(self, namespace: str, context: str):
        self.namespace = namespace
        self.context = context
        self._opened: Cluster | None = None

    @property
    def _cluster(self) -> Cluster:
        """Opened at its first use, so that a dry run needs no kubeconfig."""
        if self._opened is None:
            self._opened = Cluster(self.namespace, self.context)
        return self._opened

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        """As Target.submit. A job that failed, or is being deleted, is removed first: most of it cannot be changed."""
        objects = manifest.render(spec)
        kind = _resource(objects[-1])
        before = self._find(spec.name, kind)
        if before is not None:
            state = status.state(self._cluster, before)
            if self._same(spec, state, replace) and state.phase not in (FAILED, CANCELLED):
                self._serve(objects, before)
                return state
            # A job that the cluster would refuse must not cost the existing one.
            self._cluster.create(objects[-1], dry_run=True)
            self._cluster.delete(_resource(before), before)
            self._wait_until_gone(before)
        job = self._create(objects)
        if job is None:  # created meanwhile by somebody else; or by us, and the answer was lost
            job = self._need(spec.name)
            self._same(spec, status.state(self._cluster, job), replace=False)
            self._serve(objects, job)
        return status.state(self._cluster, job)

    def state(self, name: str) -> JobState:
        return status.state(self._cluster, self._need(name))

    def jobs(self) -> list[JobState]:
        owners: list[Object] = []
        refused: list[exits.CannotRun] = []
        for kind in (JOBSETS, JOBS):
            try:
                owners += self._cluster.list(kind, labels=_OURS)
            except exits.CannotRun as error:
                refused.append(error)
        if len(refused) == 2:
            raise refused[0]
        for sentence in refused:  # a person with permission for one kind sees that kind
            print(f"convoy: {sentence}", file=sys.stderr)
        return [status.state_or_why(self._cluster, job) for job in owners]

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        if follow:
            return logs.follow(self._cluster, self._need(name), worker, self.poll_seconds)
        return logs.lines(self._cluster, self._need(name), worker)

    def cancel(self, name: str) -> JobState:
        """As Target.cancel. The job is cancelled while its pods save and leave; then nothing is left of it."""
        job = self._need(name)
        state = status.state(self._cluster, job)
        if state.phase in ENDS:
            return state
        self._cluster.delete(_resource(job), job)
        return dataclasses.replace(state, phase=CANCELLED, reason=status.LEAVING)

    def remove(self, name: str) -> None:
        job = self._find(name)
        if job is None:  # its time to live was over meanwhile
            return
        if conditions.phase(job) not in ENDS:
            raise exits.CannotRun(f"{name} has not ended; `convoy launch cancel` ends it.")
        self._cluster.delete(_resource(job), job)

    def describe(self, spec: JobSpec) -> str:
        """As Target.describe. The text is YAML; commands stand in its comments."""
        objects = manifest.render(spec)
        flags = options.to_flags(
            (field.name, getattr(spec.options, field.name))
            for field in options.fields(type(spec.options))
            if getattr(spec.options, field.name) != field.default
        )
        rendered = shell.line(["convoy", "launch", "render", *flags, "--", *spec.train_flags])
        own = [f"{_resource(thing)}/{spec.name}" for thing in reversed(objects) if thing["kind"] != "ServiceAccount"]
        lines = {
            "submit": f"{rendered} | {self._kubectl('apply', '--filename=-')}",
            "look": self._kubectl("get", own[0]),
            "end": self._kubectl("delete", *own, "--cascade=foreground"),
        }
        comments = "".join(f"# {what}: {line}\n" for what, line in lines.items())
        return f"# By hand, with kubectl:\n{comments}{documents.to_yaml(objects)}".rstrip("\n")

    def _kubectl(self, *words: str) -> str:
        return kubectl(self.context, *words, f"--namespace={self.namespace}")

    def _find(self, name: str, wanted: Resource | None = None) -> Object | None:
        """The JobSet or Job of that name, if there is one.

        Args:
          wanted: the kind that will be created; a missing permission for the other kind does not matter then.
        """
        refused = None
        for kind in (JOBSETS, JOBS):
            try:
                if (owner := self._cluster.get(kind, name)) is not None:
                    return owner
            except exits.CannotRun as error:
                if wanted in (None, kind):
                    refused = refused or error
        if refused is not None:
            raise refused
        return None

    def _need(self, name: str) -> Object:
        job = self._find(name)
        if job is None:
            raise NoSuchJob(
                f"there is no job {name} in namespace {self.namespace}: it was never submitted there, was cancelled, or ended"
                " more than a day ago; `convoy launch list --target=k8s` shows what there is."
            )
        return job

    def _same(self, spec: JobSpec, state: JobState, replace: bool) -> bool:
        """Whether the existing job is the one to be submitted; CannotRun if it is not, and must not be replaced."""
        if state.digest == spec.digest:
            return True
        if not replace:
            raise exits.CannotRun(
                f"--name={spec.name} is another job in namespace {self.namespace}, which"
                f" {'has' if state.phase in (FAILED, SUCCEEDED) else 'is'} {state.phase}; give another --name, or --replace to"
                " end that one first."
            )
        return False

    def _create(self, objects: list[Object]) -> Object | None:
        """Creates all objects of a job; None if the job exists already.

        The service account, which many jobs share, comes first. Objects of this job alone come after it and are owned by it, so
        that they go with the job, whoever removes it.
        """
        *others, main = objects
        for thing in others:
            # A person without permission to create one may use the existing one.
            if thing["kind"] == "ServiceAccount" and not self._cluster.get(SERVICE_ACCOUNTS, thing["metadata"]["name"]):
                self._cluster.create(thing)
        job = self._cluster.create(main)
        if job is None:
            return None
        try:
            self._serve(objects, job)
        except exits.ConvoyError:
            self._cluster.delete(_resource(job), job)
            raise
        return job

    def _serve(self, objects: list[Object], job: Object) -> None:
        """Creates a job's Service and network policy if they are missing: an earlier submission may have been interrupted."""
        if conditions.phase(job) in ENDS:
            return
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        owner = {key: objects[-1][key] for key in ("apiVersion", "kind")}
        owner |= {"name": name, "uid": uid, "blockOwnerDeletion": True}
        for thing in (thing for thing in objects if thing["kind"] in ("NetworkPolicy", "Service")):
            kind = _resource(thing)
            thing["metadata"]["ownerReferences"] = [owner]
            existing = self._cluster.get(kind, name) or self._cluster.create(thing)
            existing = existing or self._cluster.get(kind, name) or {"metadata": {}, "spec": {}}
            owners = [reference["uid"] for reference in existing["metadata"].get("ownerReferences", [])]
            # An object made by `kubectl apply` has no owner, and selects the same pods.
            if uid not in owners and (owners or _selector(existing) != _selector(thing)):
                called = {"Service": "service", "NetworkPolicy": "network policy"}[thing["kind"]]
                raise exits.CannotRun(
                    f"there is a {called} {name} in namespace {self.namespace} that is not this job's; give another --name, or"
                    f" `{self._kubectl('delete', thing['kind'].lower(), name)}`."
                )

    def _wait_until_gone(self, job: Object) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        name, kind = job["metadata"]["name"], _resource(job)
        while (stored := self._cluster.get(kind, name)) is not None and stored["metadata"]["uid"] == job["metadata"][
            "uid"
        ]:
            if time.monotonic() > deadline:
                look = self._kubectl("get", "pods", f"--selector={manifest.INSTANCE}={name}")
                raise exits.TryAgain(
                    f"the job {name} that was there is still ending after {GONE_SECONDS:g} s; look with `{look}` and try again."
                )
            time.sleep(self.poll_seconds)


def _resource(thing: Object) -> Resource:
    return next(kind for kind in (JOBSETS, JOBS, SERVICES, NETWORK_POLICIES) if kind.kind == thing["kind"])


def _selector(thing: Object) -> Object | None:
    """The pods that a Service or a network policy selects."""
    return thing["spec"].get("selector") or thing["spec"].get("podSelector")
