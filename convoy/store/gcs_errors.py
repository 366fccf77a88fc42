"""What Google Cloud Storage and the way to it refuse: which of it is worth another try, and the sentences for the rest."""

from __future__ import annotations

import http
import http.client
import time

import requests
import urllib3.exceptions
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from convoy import exits

PAUSE_SECONDS = 0.5, 8.0  # before another try, at random: up to the first, doubled each time, never above the second


class Transient(Exception):
    """Found by us, and gone at another try: bytes that are not those of the object, an object replaced while it is read."""


_TRANSIENT = (
    Transient,
    DataCorruption,
    api.ServerError,
    api.TooManyRequests,
    auth.TransportError,
    ConnectionError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.JSONDecodeError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
)
_PERMISSIONS = {"write": "create", "read": "get", "list": "list", "remove": "delete"}


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    if isinstance(error, auth.RefreshError):
        return error.retryable
    if isinstance(error, InvalidResponse):  # from within an upload or a download, where the library has no class for it
        error = api.from_http_status(error.response.status_code, "")
    if isinstance(error, api.GoogleAPICallError) and error.code == http.HTTPStatus.REQUEST_TIMEOUT:
        return True
    return isinstance(error, _TRANSIENT)


def retry_until(deadline: float) -> Retry:
    """Exponential backoff with jitter, up to a time of time.monotonic(); several requests of one call may share it.

    Raises:
      The last error, when the deadline has passed or it is not transient.
    """

    def again(error: BaseException) -> bool:
        return is_transient(error) and time.monotonic() < deadline

    first, longest = PAUSE_SECONDS
    return Retry(predicate=again, initial=first, multiplier=2, maximum=longest, timeout=None)


def sentence(error: Exception, verb: str, bucket: str, place: str) -> exits.ConvoyError | None:
    """The typed error for a refusal; None for what is no refusal but a bug.

    Args:
      verb: what was tried: write, read, list or remove.
      bucket: its name.
      place: the URL of the object.
    """
    if is_transient(error):
        return exits.TryAgain(f"cannot {verb} {place} now: {_reason(error)}; the same command will continue.")
    look = f"gcloud storage buckets describe gs://{bucket}"
    login = "gcloud auth application-default login"
    if isinstance(error, (auth.GoogleAuthError, api.Unauthorized)):
        return exits.CannotRun(
            f"cannot {verb} {place}: there are no valid credentials for bucket {bucket}"
            f" (storage.objects.{_PERMISSIONS[verb]} is needed); run `{login}`."
        )
    if isinstance(error, api.Forbidden):
        return exits.CannotRun(
            f"cannot {verb} {place}: permission storage.objects.{_PERMISSIONS[verb]} on bucket {bucket} is missing; check"
            f" with `{look}` and grant it, or run `{login}` as somebody who has it."
        )
    if isinstance(error, api.NotFound):
        return exits.CannotRun(
            f"cannot {verb} {place}: there is no bucket {bucket}; check its name with `{look}` or create it."
        )
    if isinstance(error, api.ClientError):
        return exits.CannotRun(
            f"cannot {verb} {place}: {_reason(error)}; choose another place if this cannot be mended."
        )
    return None


def _reason(error: BaseException) -> str:
    """In a few words. Never an exception's own text: that of a request has its URL, which for an upload is a secret."""
    if isinstance(error, Transient):
        return str(error)
    if isinstance(error, DataCorruption):
        return "it did not arrive whole"
    if isinstance(error, api.GoogleAPICallError):
        return _answer(error)
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        if isinstance(cause, TimeoutError):
            return "no answer in time"
    return "the connection broke"


def _answer(error: api.GoogleAPICallError) -> str:
    """The server's own message if its answer has one, or what its status means."""
    code = int(error.code or 0)
    try:
        message = error.response.json()["error"]["message"]
    except (AttributeError, KeyError, TypeError, ValueError):
        message = http.HTTPStatus(code).phrase if code in http.HTTPStatus._value2member_map_ else "refused"
    return f"HTTP {code}, {str(message).strip().rstrip('.')}"


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what it wraps and what led to it, outermost first."""
    chain: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in chain:
            chain.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return chain
