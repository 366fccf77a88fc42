"""The flags of jobs on Kubernetes."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import NamedTuple

from convoy import exits
from convoy.bounds import real
from convoy.launch.flags import WHERE
from convoy.options import option

GANGS = ("jobset", "indexed")
POLICIES = ("on", "off")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SIZE = re.compile(r"[1-9]\d*(Gi|Mi)")
_VOLUME = re.compile(r"(?:(?P<claim>[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?):)?(?P<folder>(/(?!\.\.?(/|$))[^/,:]+)+)")
_KUBERNETES, _DOCTOR = "Kubernetes", "What the job would use"


@dataclasses.dataclass(frozen=True)
class KubernetesPlace:
    """A namespace of a cluster."""

    namespace: str = option("default", "k8s: where the job lives.", group=WHERE)
    context: str = option("", "k8s: which cluster of the kubeconfig (default: its current one).", group=WHERE)

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise exits.CannotRun(
                f"--namespace={self.namespace} is not possible: up to 63 small letters, digits and dashes, no dash at an end."
            )


class Volume(NamedTuple):
    """A folder that each worker has, with something in it."""

    claim_name: (
        str  # the PersistentVolumeClaim that is mounted there; "": the image brings it, or who edits the documents
    )
    folder: str


@dataclasses.dataclass(frozen=True)
class KubernetesOptions:
    """What a job's documents say beyond what every job has."""

    gang: str = option(
        "jobset",
        "jobset restarts all workers together; indexed, an Indexed Job with a headless Service for clusters without JobSet,"
        " does not restart.",
        group=_KUBERNETES,
        choices=GANGS,
    )
    queue: str = option("", "the Kueue queue that admits it; without one it starts at once.", group=_KUBERNETES)
    priority: str = option("", "the priority class; with --queue Kueue's.", group=_KUBERNETES)
    cpus: float = option(
        0.0, "CPU cores that a worker asks for (0: what suits the machine).", group=_KUBERNETES, within=real(0, 10_000)
    )
    cpu_limit: float = option(
        0.0,
        "the most CPU cores that a worker may use, where a quota of the namespace wants a limit (0: those of its machine).",
        group=_KUBERNETES,
        within=real(0, 10_000),
    )
    memory: str = option(
        "", "memory that a worker gets, 64Gi for example (default: what suits the machine).", group=_KUBERNETES
    )
    scratch: str = option(
        "",
        "disk that a worker gets for /tmp: caches, and copies of records (default: 10Gi, which with --queue counts against no"
        " quota).",
        group=_KUBERNETES,
    )
    volume: str = option(
        "",
        "folders that workers read data and weights from, comma-separated: CLAIM:/PATH mounts a PersistentVolumeClaim; /PATH"
        " alone is in the image, or mounted by an overlay.",
        group=_KUBERNETES,
    )
    network_policy: str = option(
        "on",
        "on: only the job's own pods may connect to its workers, where the cluster's network enforces that; off without"
        " the permission to create network policies.",
        group=_KUBERNETES,
        choices=POLICIES,
    )

    def __post_init__(self) -> None:
        for flag in ("memory", "scratch"):
            if (size := getattr(self, flag)) and not _SIZE.fullmatch(size):
                raise exits.CannotRun(f"--{flag}={size} is not possible: give a number of Gi or Mi, for example 64Gi.")
        if 0 < self.cpu_limit < self.cpus:
            raise exits.CannotRun(
                f"--cpu_limit={self.cpu_limit:g} is less than --cpus={self.cpus:g}, which a worker gets; give a higher limit."
            )
        _ = self.volumes

    @functools.cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """--volume, parsed."""
        parsed = []
        for text in filter(None, self.volume.split(",")):
            if not (match := _VOLUME.fullmatch(text.rstrip("/"))):
                raise exits.CannotRun(
                    f"--volume={self.volume} is not possible: `{text}` is neither CLAIM:/PATH nor /PATH."
                )
            parsed.append(Volume(match["claim"] or "", match["folder"]))
        return tuple(parsed)


@dataclasses.dataclass(frozen=True)
class KubernetesDoctorOptions:
    """What `convoy launch doctor` checks beside the cluster itself."""

    gang: str = option("jobset", "k8s: as for submit.", group=_DOCTOR, choices=GANGS)
    queue: str = option("", "k8s: its Kueue queue.", group=_DOCTOR)
    service_account: str = option("", "k8s: the account of its pods.", group=_DOCTOR)
    network_policy: str = option("on", "k8s: as for submit.", group=_DOCTOR, choices=POLICIES)
