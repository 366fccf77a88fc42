"""Checks of a pod: parts that do not fit, nodes that do not exist, and rights that training does not need."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from convoy.launch import images
from convoy.launch.targets.kubernetes.documents import Object

LONGEST = 63  # characters of a label, of a host's name, of a pod's
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # of DNS (RFC 1123): namespaces, hosts
SUBDOMAIN = re.compile(rf"(?=.{{1,253}}$){LABEL.pattern}(\.{LABEL.pattern})*")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")  # of a label
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>[eE][+-]?\d+|[KMGTPE]i|[numkMGTPE]?)")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "m": -1, "u": -2, "n": -3}
_WORD_BYTES = 128 * 1024  # Linux takes shorter arguments and variables
GOOGLE = "cloud.google.com"


def check(pod: Object) -> Iterator[str]:
    """A sentence for each problem of the spec of a pod."""
    yield from _volumes(pod)
    yield from _place(pod)
    yield from _rights(pod)
    for container in pod["containers"]:
        yield from _process(container)
        yield from _resources(container)
        yield from _sizes(container, pod)
        yield from _container_rights(container, pod)


def labels(given: dict[str, str]) -> Iterator[str]:
    """A sentence for each label that is not possible."""
    for key, value in given.items():
        prefix, slash, name = key.rpartition("/")
        if not name or not _VALUE.fullmatch(name) or (slash and not SUBDOMAIN.fullmatch(prefix)):
            yield f"`{key}` is no name of a label; give PREFIX/NAME of letters, digits, dashes, dots and underscores."
        if not _VALUE.fullmatch(value):
            yield (
                f"{key}={value} is no label; its value has at most {LONGEST} letters, digits, dashes, dots and"
                " underscores, a letter or digit first and last."
            )


def utf8(text: str) -> bytes:
    """The bytes of any text, unpaired surrogates included."""
    return text.encode(errors="surrogatepass")


def _volumes(pod: Object) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    if len(set(volumes)) < len(volumes):
        yield f"two of the volumes {', '.join(volumes)} have one name; give each its own."
    for container in pod["containers"]:
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"there is no volume {mount['name']}, which {mount['mountPath']} is to show; add it."
        places = [mount["mountPath"] for mount in mounts]
        if len(set(places)) < len(places):
            yield f"two volumes are mounted on one of {', '.join(places)}; give each its own place."


def _process(container: Object) -> Iterator[str]:
    image = container.get("image", "")
    if problem := images.why_not(image):
        yield f"`{image}` {problem}."
    variables = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
    if len(variables) < len(container.get("env", [])):
        yield "a variable is set twice; set it once."
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            yield f"`{name}` is no name of a variable; give letters, digits and underscores."
    writable = [mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")]
    if "HOME" in variables and variables["HOME"] not in writable and _read_only(container):
        yield f"HOME={variables['HOME']} cannot be written to; mount a volume there."
    for word in (*container.get("command", []), *container.get("args", []), *variables.values()):
        if len(utf8(word)) >= _WORD_BYTES:
            yield (
                f"{word[:40]}... has {len(utf8(word))} bytes, and Linux passes fewer than {_WORD_BYTES} on; if these are the"
                " hosts, give the job a shorter name."
            )
        if "\0" in word or word.encode(errors="replace") != utf8(word):
            yield f"{word[:40]!r} is no text that a process can be given; write it in UTF-8."


def _resources(container: Object) -> Iterator[str]:
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for key, value in (*requests.items(), *limits.items()):
        if math.isnan(_amount(value)):
            yield f"{key}: {value} is no quantity; give 4 or 64Gi, for example."
    for key, value in limits.items():
        asked = requests.get(key, value)
        if _amount(asked) > _amount(value):
            yield f"it asks for {asked} of {key} and may have {value}; give a higher limit."
        if "/" in key and (_amount(asked) != _amount(value) or _amount(value) % 1):
            yield f"{key} is given out whole; let request and limit be one whole number."


def _sizes(container: Object, pod: Object) -> Iterator[str]:
    limits = container.get("resources", {}).get("limits", {})
    memory, disk = limits.get("memory"), limits.get("ephemeral-storage")
    for volume in pod.get("volumes", []):
        if "emptyDir" not in volume:
            continue
        size, in_memory = volume["emptyDir"].get("sizeLimit"), volume["emptyDir"].get("medium") == "Memory"
        if in_memory and not _amount(size) < _amount(memory):
            yield (
                f"volume {volume['name']} counts as the container's memory and may take all of it; give the volume a"
                f" sizeLimit below the limit of {memory or 'memory, and that too'}."
            )
        elif not in_memory and size is None:
            yield f"volume {volume['name']} may fill the node's disk; give it a sizeLimit."
        elif not in_memory and disk is not None and not _amount(size) <= _amount(disk):
            yield f"volume {volume['name']} may have {size}, the pod {disk} of the node's disk; give one size."


def _place(pod: Object) -> Iterator[str]:
    selector = pod.get("nodeSelector", {})
    yield from labels(selector)
    if f"{GOOGLE}/gke-spot" in selector and f"{GOOGLE}/reservation-name" in selector:
        yield "no machine is both spot and reserved; leave out --spot or --reservation."
    tolerated = {toleration.get("key") for toleration in pod.get("tolerations", [])}
    for resource in ("nvidia.com/gpu", "google.com/tpu"):
        wanted = any(resource in container.get("resources", {}).get("limits", {}) for container in pod["containers"])
        if wanted and resource not in tolerated:
            yield f"nodes with {resource} keep away pods that do not tolerate that taint; add a toleration."
    for key in ("serviceAccountName", "priorityClassName"):
        if key in pod and not SUBDOMAIN.fullmatch(pod[key]):
            yield f"{key} {pod[key]} is not possible; give small letters, digits, dashes and dots."


def _rights(pod: Object) -> Iterator[str]:
    """The restricted Pod Security standard, and other rights that training does not need."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "it would carry a token for Kubernetes, which it never calls; give automountServiceAccountToken: false."
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"it would share the node's ({key}); take that away."
    for volume in pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a folder of the node; take another kind."


def _container_rights(container: Object, pod: Object) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    both = {**pod.get("securityContext", {}), **own}
    if both.get("runAsNonRoot") is not True or both.get("runAsUser", 1) == 0:
        yield f"container {name} may run as root; give runAsNonRoot: true and a runAsUser that is not 0."
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"container {name} may make any system call; give seccompProfile: {{type: RuntimeDefault}}."
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"container {name} may gain rights; give allowPrivilegeEscalation: false, and no privileged: true."
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"container {name} keeps capabilities; give capabilities: {{drop: [ALL]}}."
    if not _read_only(container):
        yield f"container {name} may change its own files; give readOnlyRootFilesystem: true."


def _read_only(container: Object) -> bool:
    return container.get("securityContext", {}).get("readOnlyRootFilesystem") is True


def _amount(quantity: Any) -> float:
    """A quantity of Kubernetes -> a number; NaN if it is no quantity."""
    match = _QUANTITY.fullmatch(str(quantity))
    if not match:
        return math.nan
    number, unit = float(match["number"]), match["unit"]
    if unit[1:].lstrip("+-").isdigit():
        return number * 10.0 ** int(unit[1:])
    return number * (1024.0 if unit.endswith("i") else 1000.0) ** _POWERS[unit[:1]]
