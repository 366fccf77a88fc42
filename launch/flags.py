"""The flags of every job: its name, its target, its machines. Targets add flags of their own (targets/options.py)."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar

from convoy import exits, options
from convoy.bounds import real, whole
from convoy.launch import images
from convoy.options import option
from convoy.outside import printable

MAX_NAME_CHARACTERS = 40
MAX_WORKERS = 10_000
WHERE, JOB, BUDGET = "Where", "Job", "Budget"  # groups of --help
_NAME = re.compile(rf"[a-z]([-a-z0-9]{{0,{MAX_NAME_CHARACTERS - 2}}}[a-z0-9])?")
_YEAR = 24 * 365
# Control and format characters, among them those that turn the direction of a line; surrogates; Unicode's own line breaks.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # zero-width characters that some scripts, and emoji, need within a word
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class JobName:
    """A job's name. It becomes a part of the names of pods and hosts, which have 63 characters."""

    name: str = option("", "of the job: up to 40 small letters, digits and dashes, a letter first.", group=JOB)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            problem = f"={self.name} is not possible" if self.name else " is missing"
            raise exits.CannotRun(
                f"--name{problem}: give up to {MAX_NAME_CHARACTERS} small letters, digits and dashes, a letter first and no"
                " dash last."
            )


@dataclasses.dataclass(frozen=True)
class TargetOptions:
    """Which target, for every verb. `targets.options.target_options` makes `target` a flag and adds those of each target."""

    target: str = "local"

    def __post_init__(self) -> None:
        check_visible(vars(self))

    def narrowed(self, kind: type[T]) -> T:
        """These options as those of one target, for its own modules."""
        assert isinstance(self, kind)
        return self


@dataclasses.dataclass(frozen=True)
class JobOptions(TargetOptions, JobName):
    """The flags of a job. Valid by construction: an impossible value raises exits.CannotRun, a sentence."""

    accelerator: str = option(
        "cpu",
        "of each worker: cpu, or GPUs as l4x4 or h100x8; or a TPU slice as v5e-16, which all workers share"
        " (`convoy launch accelerators` lists them).",
        group=JOB,
    )
    topology: str = option("", "of a TPU slice, 2x4 for example, where its name leaves a choice.", group=JOB)
    workers: int = option(
        0,
        "processes of the job, one a pod or machine (0: 1, or as many as the TPU slice has machines).",
        group=JOB,
        within=whole(0, MAX_WORKERS),
    )
    image: str = option("", "the container's image, best by digest: REF@sha256:...", group=JOB)
    service_account: str = option("", "the account that the pods, or machines, act as.", group=JOB)
    spot: bool = option(False, "take machines that may be taken back at any time, at their price.", group=BUDGET)
    reservation: str = option("", "use this reservation of machines.", group=BUDGET)
    max_restarts: int = option(
        10, "how often the job may begin again before it has failed.", group=BUDGET, within=whole(0, 1_000_000)
    )
    hours: float = option(
        72.0,
        "the longest that an attempt may run (with --queue all of them together, on tpu-vm with the wait for machines).",
        group=BUDGET,
        within=real(0, _YEAR, above=True),
    )
    price_per_hour: float = option(
        0.0,
        "of one worker's machine, in dollars, where the table has none or another one.",
        group=BUDGET,
        within=real(0, 1e9),
    )

    def __post_init__(self) -> None:
        TargetOptions.__post_init__(self)
        JobName.__post_init__(self)
        options.check(self)
        if self.image and (problem := images.why_not(self.image)):
            raise exits.CannotRun(f"--image={self.image} {problem}.")


def check_visible(flags: Mapping[str, Any]) -> None:
    """CannotRun for a flag whose value has a line break, or another invisible character.

    Documents, comments and command lines show flags: no value may end them, or make them read as something else.
    """
    for flag, value in flags.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        invisible = (character for character in value if unicodedata.category(character) in _INVISIBLE)
        character = next((character for character in invisible if character not in _JOINERS), "")
        if character:
            name = "a line break" if character in "\n\r\x85\u2028\u2029" else _called(character)
            raise exits.CannotRun(f"--{flag}={printable(value[:200])} has {name}; take it out.")


def _called(character: str) -> str:
    return f"the invisible character U+{ord(character):04X}"
