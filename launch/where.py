"""Which job, and where: the flags that all verbs share."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from convoy import exits
from convoy.options import option
from convoy.outside import printable

TARGETS = ("local", "k8s", "tpu-vm")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LONGEST = 40  # characters of a name
MOST_WORKERS = 10_000
_NAME = re.compile(rf"[a-z]([-a-z0-9]{{0,{LONGEST - 2}}}[a-z0-9])?")
# Control and format characters, among them those that turn the direction of a line; surrogates; Unicode's own line breaks.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # which words of some scripts, and emoji, are written with


@dataclasses.dataclass(frozen=True)
class Name:
    """A job's name. It becomes a part of the names of pods and hosts, which have 63 characters."""

    name: str = option("", "of the job: up to 40 small letters, digits and dashes, a letter first.", group="Job")

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            what = f"={self.name} is not possible" if self.name else " is missing"
            raise exits.CannotRun(
                f"--name{what}: give up to 40 small letters, digits and dashes, a letter first and no dash last."
            )


@dataclasses.dataclass(frozen=True)
class Where:
    """A place for jobs."""

    target: str = option(
        "local",
        "local: a rehearsal of the job on this machine; k8s: a Kubernetes cluster; tpu-vm: Cloud TPU VMs.",
        group="Where",
        choices=TARGETS,
    )
    namespace: str = option("default", "k8s: where the job lives.", group="Where")
    context: str = option("", "k8s: which cluster of the kubeconfig (default: its current one).", group="Where")
    project: str = option("", "tpu-vm: the Google Cloud project.", group="Where")
    zone: str = option("", "tpu-vm: the zone, europe-west4-b for example.", group="Where")

    def __post_init__(self) -> None:
        check_visible(vars(self))
        if not _NAMESPACE.fullmatch(self.namespace):
            raise exits.CannotRun(
                f"--namespace={self.namespace} is not possible: up to 63 small letters, digits and dashes, no dash at an end."
            )
        if self.target == "tpu-vm":
            for flag in ("project", "zone"):
                if not getattr(self, flag):
                    raise exits.CannotRun(f"--{flag} is missing, which --target=tpu-vm needs.")


def check_visible(flags: Mapping[str, Any]) -> None:
    """CannotRun for a flag whose value has a line break, or another character that cannot be seen.

    Documents, comments and command lines show flags: none of them may end there, or read as something else than it is.
    """
    for flag, value in flags.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        hidden = next((one for one in value if unicodedata.category(one) in _INVISIBLE and one not in _JOINERS), "")
        if hidden:
            what = (
                "a line break" if hidden in "\n\r\x85\u2028\u2029" else f"the invisible character U+{ord(hidden):04X}"
            )
            raise exits.CannotRun(f"--{flag}={printable(value[:200])} has {what}; take it out.")
