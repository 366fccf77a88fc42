"""Cloud TPU's API, version 2, over REST by the official client: each call has a deadline, each refusal is a sentence."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from convoy import exits
from convoy.outside import printable

try:
    import requests
    from google.api_core import exceptions as api
    from google.api_core.retry import Retry
    from google.auth import exceptions as auth
    from google.cloud import tpu_v2
except ImportError as error:
    raise exits.CannotRun(
        f"--target=tpu-vm needs the package google-cloud-tpu, which is not here ({error.name}); run"
        " `pip install 'keras-convoy[launch]'`."
    ) from None

FIRST_PAUSE_SECONDS = 1.0  # between two attempts, doubled up to ten times that
CALL_SECONDS = 60.0  # of one call with all its attempts: the client's own default is to wait for ever
CREATE_SECONDS = 120.0  # until the request is accepted; longer is no error
GONE_SECONDS = 600.0
_AWAY = (
    api.ServerError,
    auth.TransportError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
QueuedResource = tpu_v2.QueuedResource
T = TypeVar("T")


class TpuApi:
    """Queued resources and nodes of one zone of a project; `client` is for tests."""

    def __init__(self, project: str, zone: str, poll_seconds: float, client: Any = None):
        self.project = project
        self.zone = zone
        self.poll_seconds = poll_seconds  # while something is being deleted
        self.parent = f"projects/{project}/locations/{zone}"
        self._given = client

    def resources(self) -> list[Any]:
        """Every QueuedResource of the zone, Convoy's and others."""
        return self._call(
            "list", lambda limits: list(self._client().list_queued_resources(parent=self.parent, **limits))
        )

    def find(self, name: str) -> Any:
        """The QueuedResource of that name, or None."""
        return self._get(lambda limits: self._client().get_queued_resource(name=self._path(name), **limits))

    def node(self, name: str) -> Any:
        """The Node of that name, or None. A Node is all machines of a slice."""
        return self._get(lambda limits: self._client().get_node(name=f"{self.parent}/nodes/{name}", **limits))

    def create(self, name: str, resource: Any) -> None:
        """Returns once the request is accepted, or after CREATE_SECONDS if the resource exists."""
        # The id identifies the request if it is sent again because an answer was lost.
        request = tpu_v2.CreateQueuedResourceRequest(
            parent=self.parent, queued_resource_id=name, queued_resource=resource, request_id=str(uuid.uuid4())
        )
        operation = self._call("create", lambda limits: self._client().create_queued_resource(request, **limits))
        try:
            self._call("create", lambda _: operation.result(timeout=CREATE_SECONDS))
        except exits.TryAgain:
            if self.find(name) is None:
                raise

    def delete(self, name: str) -> None:
        """Deletes a queued resource and its machines, and returns when it is gone; TryAgain after GONE_SECONDS.

        Cloud TPU refuses to delete it while its machines are being created or taken back.
        """
        request = tpu_v2.DeleteQueuedResourceRequest(name=self._path(name), force=True)
        deadline = time.monotonic() + GONE_SECONDS
        refused = ""

        def delete(limits: dict[str, Any]) -> str:
            try:
                self._client().delete_queued_resource(request, **limits)
            except (api.BadRequest, api.Conflict) as error:
                return one_line(error.message)
            return ""

        while (resource := self.find(name)) is not None:
            if resource.state.state.name != "DELETING":
                try:
                    refused = self._call("delete", delete)
                except FileNotFoundError:
                    return
            if time.monotonic() > deadline:
                why = f" ({refused})" if refused else ""
                raise exits.TryAgain(f"{name} is still there after {GONE_SECONDS:g} s{why}; try it again later.")
            time.sleep(self.poll_seconds)

    def _client(self) -> Any:
        if self._given is None:
            self._given = tpu_v2.TpuClient(transport="rest")
        return self._given

    def _path(self, name: str) -> str:
        return f"{self.parent}/queuedResources/{name}"

    def _get(self, function: Callable[[dict[str, Any]], T]) -> T | None:
        try:
            return self._call("get", function)
        except FileNotFoundError:
            return None

    def _call(self, verb: str, function: Callable[[dict[str, Any]], T]) -> T:
        """Calls `function` with the client's limits; raises FileNotFoundError if there is no such object.

        A 429 means that a quota of chips is used up when something is created, and otherwise that requests came too fast.
        """
        away = _AWAY if verb == "create" else (*_AWAY, api.TooManyRequests)
        retry = Retry(
            predicate=lambda error: isinstance(error, away),
            initial=FIRST_PAUSE_SECONDS,
            maximum=10 * FIRST_PAUSE_SECONDS,
            timeout=CALL_SECONDS,
        )
        what = f"cannot {verb} queued resources in {self.zone} of project {self.project}"
        login = "`gcloud auth application-default login`"
        try:
            return function({"retry": retry, "timeout": CALL_SECONDS})
        except api.NotFound as error:
            if verb in ("get", "delete"):
                raise FileNotFoundError(str(error)) from None
            raise exits.CannotRun(
                f"{what}: there is no such zone or project, or no Cloud TPU in it; `gcloud compute tpus locations list"
                f" --project={self.project}` lists the zones."
            ) from None
        except (api.ResourceExhausted, api.TooManyRequests) as error:
            raise exits.CannotRun(f"{what}: {quota(error.message, self.zone)}.") from None
        except (*_AWAY, api.RetryError, requests.RequestException, TimeoutError) as error:
            cause = error.cause if isinstance(error, api.RetryError) else error
            raise exits.TryAgain(f"{what} now: {type(cause).__name__}; try the same command again.") from None
        except (api.Unauthenticated, api.Unauthorized, auth.GoogleAuthError):
            raise exits.CannotRun(f"{what}: there are no valid credentials; run {login}.") from None
        except api.Forbidden as error:
            raise exits.CannotRun(
                f"{what}: {one_line(error.message)}; ask for roles/tpu.admin, switch the API on with `gcloud services enable"
                f" tpu.googleapis.com --project={self.project}`, or run {login} as somebody who may."
            ) from None
        except api.Conflict:
            raise exits.TryAgain(f"{what}: it is there already, made just now by somebody else; look again.") from None
        except api.GoogleAPICallError as error:
            raise exits.CannotRun(f"{what}: {one_line(error.message)}.") from None


def quota(message: str, zone: str) -> str:
    """The API's message about a quota, and what to do."""
    return (
        f"the quota is used up: {one_line(message)}; free some with `convoy launch gc`, take another --zone than {zone}, or"
        " ask for more at https://console.cloud.google.com/iam-admin/quotas"
    )


def one_line(text: str) -> str:
    """A message of the API without the client's prefix, the request; at most 600 characters."""
    text = re.sub(r"^[A-Z]+ https?://\S+: ", "", text)
    return printable(" ".join(text.split()).rstrip(".")[:600])
