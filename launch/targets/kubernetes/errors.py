"""Refusals of a Kubernetes cluster and of the connection to it: which are retried, and sentences with the next command."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import urllib3
from urllib3 import exceptions as http

from convoy import exits
from convoy.launch import shell
from convoy.outside import printable

RETRIES = 5  # of one request
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
LONGEST_RETRY_AFTER_SECONDS = 20  # whatever the server asks for
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_LOGIN = "gcloud container clusters get-credentials CLUSTER --location=LOCATION"
_CONTEXTS = "`kubectl config get-contexts` lists those there are"
# What else to say about a missing permission, by kind.
_MORE = {
    "jobsets": " Without JobSet in the cluster it says no, too.",
    "networkpolicies": " With --network_policy=off the job goes without one: then whatever runs in the cluster may connect to"
    " its workers.",
}
INSTALL_JOBSET = "https://jobset.sigs.k8s.io/docs/installation"


class NoKubeconfig(exits.CannotRun):
    """There is no kubeconfig, or it is empty."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A request, for sentences about its failure.

    Attributes:
      verb: get, list, create or delete, as permissions name it.
      resource: as kubectl names it: jobsets.jobset.x-k8s.io, pods, pods/log.
      name: of the object; empty for a list.
      server: the cluster's URL.
    """

    verb: str
    resource: str
    name: str
    namespace: str
    context: str
    server: str

    def __str__(self) -> str:
        what = f"{self.resource} {self.name}" if self.name else self.resource
        return f"cannot {self.verb} {what}" + (f" in namespace {self.namespace}" if self.namespace else "")

    def kubectl(self, *words: str) -> str:
        """A command line for a person."""
        return kubectl(self.context, *words)


def kubectl(context: str, *words: str) -> str:
    """A command line for a person, quoted for the shell; `context` empty: the current one."""
    return shell.line(["kubectl", *([f"--context={context}"] if context else []), *words])


def retries() -> urllib3.Retry:
    """The retries of one request: transient failures only, with growing pauses, or when the server says.

    With the timeouts of api.py a request lasts 190 s at most: six attempts of 15 s, and five pauses of 20 s.

    The last answer is returned as it is; the last broken connection raises urllib3's MaxRetryError.
    """
    return urllib3.Retry(
        total=RETRIES,
        other=0,  # a certificate does not change
        # A create whose answer was lost is noticed at the next attempt: 409.
        allowed_methods=None,
        status_forcelist=_TRANSIENT,
        raise_on_status=False,
        backoff_factor=FIRST_PAUSE_SECONDS,
        backoff_max=LONGEST_PAUSE_SECONDS,
        backoff_jitter=FIRST_PAUSE_SECONDS,
        retry_after_max=LONGEST_RETRY_AFTER_SECONDS,
    )


def no_cluster(error: Exception, context: str) -> exits.CannotRun:
    """The typed error for a kubeconfig that leads nowhere."""
    text = _one_line(str(error))
    if "No configuration found" in text or text.endswith("is empty"):
        return NoKubeconfig(
            "there is no kubeconfig that names a cluster, neither in KUBECONFIG nor in ~/.kube/config; for GKE"
            f" `{_LOGIN}` writes one, and --target=local rehearses the job without a cluster."
        )
    if text.endswith("contexts list"):
        what = (
            f"--context={context} is not in the kubeconfig" if context else "the kubeconfig lacks its current context"
        )
        return exits.CannotRun(f"{what}; {_CONTEXTS}.")
    if "key current-context" in text:
        return exits.CannotRun(f"the kubeconfig has no current context; give --context: {_CONTEXTS}.")
    return exits.CannotRun(f"the kubeconfig cannot be used: {text}; `{_LOGIN}` mends it.")


def refusal(code: int, status: dict[str, Any], attempt: Attempt) -> exits.ConvoyError:
    """The typed error for an HTTP status of 400 and above; `status` is the Status object that came with it."""
    message = _one_line(status.get("message") or "") or "no reason given"
    if code in _TRANSIENT:
        if code == 429:
            return exits.TryAgain(
                f"{attempt} now: the cluster has too many requests ({message}); try again in a minute."
            )
        look = attempt.kubectl("get", "--raw=/readyz?verbose")
        if "webhook" in message:
            look = attempt.kubectl("get", "pods", "--all-namespaces", "--selector=control-plane=controller-manager")
        return exits.TryAgain(f"{attempt} now: HTTP {code}, {message}; try again, or look with `{look}`.")
    # Without credentials, if the kubeconfig's plugin is not installed for example, some clusters see an anonymous user.
    if code == 401 or (code == 403 and "system:anonymous" in message):
        return exits.CannotRun(
            f"{attempt}: the cluster at {attempt.server} does not accept the kubeconfig's credentials ({code}); log in again,"
            f" for GKE with `{_LOGIN}`, which needs gke-gcloud-auth-plugin, and see `{attempt.kubectl('auth', 'whoami')}`."
        )
    if code == 403:
        return _forbidden(message, attempt)
    if code == 404:
        return _missing(status, message, attempt)
    if code == 409:
        return exits.TryAgain(f"{attempt}: somebody else changed it at the same time ({message}); try again.")
    if code == 422:
        causes = (status.get("details") or {}).get("causes") or []
        reasons = (
            "; ".join(f"{cause.get('field', '?')}: {_one_line(cause.get('message', ''))}" for cause in causes)
            or message
        )
        return exits.CannotRun(
            f"{attempt}: the cluster finds it invalid: {reasons}; `convoy launch render` prints it whole."
        )
    if code == 400 and "unknown field" in message:
        return exits.CannotRun(
            f"{attempt}: the cluster's version does not know all of it ({message}); renew what is installed there, see"
            f" {INSTALL_JOBSET}, or give --gang=indexed."
        )
    return exits.CannotRun(f"{attempt}: HTTP {code}, {message}.")


def _forbidden(message: str, attempt: Attempt) -> exits.CannotRun:
    if "exceeded quota" in message:
        look = attempt.kubectl("describe", "resourcequota", f"--namespace={attempt.namespace}")
        return exits.CannotRun(
            f"{attempt}: {message}; `{look}` shows what is used, `convoy launch gc` ends what is over."
        )
    if "admission webhook" in message or "PodSecurity" in message or "ValidatingAdmissionPolicy" in message:
        return exits.CannotRun(f"{attempt}: a policy of the cluster refuses it: {message}; ask who runs the cluster.")
    ask = attempt.kubectl("auth", "can-i", attempt.verb, attempt.resource, f"--namespace={attempt.namespace}")
    return exits.CannotRun(
        f"{attempt}: that is not permitted ({message}); `{ask}` must say yes, so ask for a role that allows it."
        + _MORE.get(attempt.resource.partition(".")[0], "")
    )


def _missing(status: dict[str, Any], message: str, attempt: Attempt) -> exits.CannotRun:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces":
        create = attempt.kubectl("create", "namespace", attempt.namespace)
        return exits.CannotRun(f"{attempt}: there is no such namespace; give another --namespace, or `{create}`.")
    group = attempt.resource.partition(".")[2]
    if "jobset" in group:
        look = attempt.kubectl("api-resources", "--api-group=jobset.x-k8s.io")
        return exits.CannotRun(
            f"{attempt}: JobSet is not installed in the cluster (`{look}` lists nothing); install it as {INSTALL_JOBSET}"
            " says, or give --gang=indexed, a job that does not restart."
        )
    look = attempt.kubectl("api-resources", *([f"--api-group={group}"] if group else []))
    return exits.CannotRun(
        f"{attempt}: the cluster at {attempt.server} does not know them; `{look}` lists what it knows."
    )


def unreachable(error: Exception, attempt: Attempt) -> exits.ConvoyError:
    """The typed error for a request that got no answer."""
    reason = _reason(error)
    if "certificate" in reason:
        return exits.CannotRun(
            f"{attempt}: the cluster at {attempt.server} has not the certificate that the kubeconfig asks for ({reason});"
            f" `{_LOGIN}` renews it."
        )
    look = attempt.kubectl("cluster-info")
    return exits.TryAgain(
        f"{attempt}: the cluster at {attempt.server} cannot be reached: {reason}; see whether it still exists and whether a VPN"
        f" or an authorized network is needed, with `{look}`."
    )


def no_api(attempt: Attempt) -> exits.TryAgain:
    """The typed error for an answer that is not JSON: from a proxy, or from the login page of a network."""
    look = attempt.kubectl("get", "--raw=/version")
    return exits.TryAgain(
        f"{attempt}: what answers at {attempt.server} does not speak Kubernetes' API; see what it says with `{look}`, and"
        " whether a proxy or a login page stands before it."
    )


def _reason(error: BaseException) -> str:
    """The reason in a few words; never the whole text of an exception, which has addresses of objects and URLs."""
    if isinstance(error, http.MaxRetryError) and error.reason is not None:
        return _reason(error.reason)
    if "certificate" in str(error).lower():
        return "certificate verify failed"
    if isinstance(error, http.NameResolutionError):
        return "its name is not known here"
    if isinstance(error, http.NewConnectionError):
        cause = error.__cause__ or error.__context__
        return cause.strerror.lower() if isinstance(cause, OSError) and cause.strerror else "no connection"
    if isinstance(error, http.TimeoutError):
        return "no answer in time"
    return "the connection broke"


def status(text: bytes) -> dict[str, Any]:
    """The Status object that came with a refusal, or its text as one."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"message": text.decode(errors="replace")}


def _one_line(text: str) -> str:
    return printable(" ".join(str(text).split()).rstrip(".")[:600])
