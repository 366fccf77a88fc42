"""One namespace of a Kubernetes cluster, by the official client: objects are dictionaries, refusals are sentences."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from convoy.launch.targets.kubernetes import errors
from convoy.launch.targets.kubernetes.documents import Object
from convoy.launch.targets.kubernetes.errors import Attempt

# Of one attempt at a request; errors.RETRIES is how often it is repeated.
CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
# After so long without a line the log is requested again: the connection may be dead without an error.
SILENCE_SECONDS = 60.0
_LINE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Resource:
    """A kind of object. `group` is empty for the core API."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"

    def path(self, namespace: str, name: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{root}{within}/{self.plural}{f'/{name}' if name else ''}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


JOBSETS = Resource("JobSet", "jobsets", "jobset.x-k8s.io", "v1alpha2")
JOBS = Resource("Job", "jobs", "batch")
PODS = Resource("Pod", "pods")
EVENTS = Resource("Event", "events")
SERVICES = Resource("Service", "services")
SERVICE_ACCOUNTS = Resource("ServiceAccount", "serviceaccounts")
NETWORK_POLICIES = Resource("NetworkPolicy", "networkpolicies", "networking.k8s.io")
REVIEWS = Resource("SelfSubjectAccessReview", "selfsubjectaccessreviews", "authorization.k8s.io")
# The newest first; an older Kueue has only the second.
WORKLOADS = tuple(Resource("Workload", "workloads", "kueue.x-k8s.io", version) for version in ("v1beta2", "v1beta1"))
QUEUES = tuple(Resource("LocalQueue", "localqueues", "kueue.x-k8s.io", version) for version in ("v1beta2", "v1beta1"))
_CREATED = {resource.kind: resource for resource in (JOBSETS, JOBS, SERVICES, SERVICE_ACCOUNTS, NETWORK_POLICIES)}


class Cluster:
    """Every method raises exits.CannotRun or exits.TryAgain, a sentence with the next command, on a refusal or an outage.

    Args:
      namespace: of all objects.
      context: of the kubeconfig; empty: its current one.
    """

    def __init__(self, namespace: str, context: str):
        self.namespace, self.context = namespace, context
        self._client = client.ApiClient(_settings(context))
        self.server: str = self._client.configuration.host
        self._known = False  # whether the cluster has accepted our credentials
        # It would log every failed attempt, with the addresses of its objects.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

    def kubectl(self, *words: str) -> str:
        """A command line for a person to run there."""
        return errors.kubectl(self.context, *words, f"--namespace={self.namespace}")

    def get(self, resource: Resource, name: str) -> Object | None:
        """The object; None if there is none, or if the cluster does not know its kind."""
        return self._call("GET", resource.path(self.namespace, name), self._attempt("get", resource, name), fine=(404,))

    def list(self, resource: Resource, labels: str = "", fields: str = "") -> list[Object]:
        """The objects that match both selectors; none if the cluster does not know their kind."""
        query = [(key, value) for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value]
        attempt = self._attempt("list", resource)
        answer = self._call("GET", resource.path(self.namespace), attempt, query, fine=(404,))
        return answer["items"] if answer else []

    def create(self, thing: Object, dry_run: bool = False) -> Object | None:
        """The object as created; None if there is one of that name already. `dry_run` does all but store it.

        An object with a field that the cluster does not know is refused, since the cluster would silently drop the field.
        """
        resource, name = _CREATED[thing["kind"]], thing["metadata"]["name"]
        attempt = self._attempt("create", resource, name)
        query = [("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])]
        return self._call("POST", resource.path(self.namespace), attempt, query, thing, fine=("AlreadyExists",))

    def delete(self, resource: Resource, thing: Object) -> None:
        """Deletes an object after all that it owns. An object that is gone, or was made anew since, is left alone."""
        name, uid = thing["metadata"]["name"], thing["metadata"]["uid"]
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        attempt = self._attempt("delete", resource, name)
        self._call("DELETE", resource.path(self.namespace, name), attempt, body=body, fine=(404, 409))

    def may(self, verb: str, resource: Resource, part: str = "") -> bool:
        """Whether this person has the permission; `part` is a subresource: log for pods/log."""
        attributes = {"namespace": self.namespace, "verb": verb, "group": resource.group, "resource": resource.plural}
        if part:
            attributes["subresource"] = part
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": REVIEWS.kind,
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._call(
            "POST", REVIEWS.path(""), Attempt("create", str(REVIEWS), "", "", self.context, self.server), body=body
        )
        return bool(answer["status"]["allowed"])

    def read(self, path: str) -> Any:
        """The document at a path like /version; None if the server does not know the path."""
        return self._call("GET", path, Attempt("get", path, "", "", self.context, self.server), fine=(404,))

    def log(self, pod: str, container: str, since: str = "", follow: bool = False) -> Iterator[tuple[str, str]]:
        """(time, line) of what a container printed from `since` on; nothing if its pod is gone.

        `follow` goes on until the container ends, or the connection breaks.
        """
        query = [("container", container), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        query += [("follow", "true")] if follow else []
        attempt = dataclasses.replace(self._attempt("get", PODS, pod), resource="pods/log")
        answer = self._call("GET", f"{PODS.path(self.namespace, pod)}/log", attempt, query, fine=(404,), stream=True)
        if answer is None:
            return
        try:
            for text in _lines(answer):
                moment, _, line = text.partition(" ")
                yield moment, line
        except (ReadTimeoutError, ProtocolError) as error:
            if not follow:
                raise errors.unreachable(error, attempt) from None
        finally:
            answer.close()

    def _attempt(self, verb: str, resource: Resource, name: str = "") -> Attempt:
        return Attempt(verb, str(resource), name, self.namespace, self.context, self.server)

    def _call(
        self,
        method: str,
        path: str,
        attempt: Attempt,
        query: Iterable[tuple[str, str]] = (),
        body: Object | None = None,
        fine: tuple[int | str, ...] = (),
        stream: bool = False,
    ) -> Any:
        """The answer, parsed, or its stream; None for a refusal whose HTTP status or reason is one of `fine`."""
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query),
            header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        timeouts = CONNECT_SECONDS, SILENCE_SECONDS if stream else READ_SECONDS
        try:
            answer = self._client.call_api(*request, _request_timeout=timeouts)
            if answer.status == HTTPStatus.UNAUTHORIZED and self._known:
                # Accepted credentials expire within the days of a job; the kubeconfig may have newer ones.
                self._known = False
                self._client = client.ApiClient(_settings(self.context))
                return self._call(method, path, attempt, query, body, fine, stream)
            self._known = answer.status != HTTPStatus.UNAUTHORIZED
            if stream and answer.status == HTTPStatus.OK:
                return answer.response
            text = answer.read()
        except (ApiException, HTTPError) as error:
            raise errors.unreachable(error, attempt) from None
        if answer.status < HTTPStatus.BAD_REQUEST:
            try:
                return json.loads(text)
            except ValueError:
                raise errors.no_api(attempt) from None
        status = errors.status(text)
        if answer.status in fine or status.get("reason") in fine:
            return None
        raise errors.refusal(answer.status, status, attempt)


def _settings(context: str) -> Any:
    """Address and credentials of the cluster: from the kubeconfig, or without one, in a pod, the pod's own."""
    settings = client.Configuration()
    try:
        config.load_kube_config(context=context or None, client_configuration=settings)
        if not settings.host.startswith(("http://", "https://")):
            raise config.ConfigException(f"server {settings.host!r} of its cluster is no URL")
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
        # The last three: the client assumes that the file is text, and holds a mapping.
        refused = errors.no_cluster(error, context)
        if context or not isinstance(refused, errors.NoKubeconfig):
            raise refused from None
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise refused from None
    settings.retries = errors.retries()
    return settings


def _lines(answer: Any) -> Iterator[str]:
    """The lines of a streamed answer, as they arrive; of an endless line, its beginning."""
    pending = b""
    for chunk in answer.stream(decode_content=True):
        *lines, pending = (pending + chunk).split(b"\n")
        pending = pending[:_LINE_BYTES]
        for line in lines:
            yield line.decode(errors="replace")
    if pending:
        yield pending.decode(errors="replace")
