"""Where jobs run: one small interface before this machine, a Kubernetes cluster and Cloud TPU VMs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol

from convoy import exits, shapes
from convoy.bounds import real, whole
from convoy.launch.job import JobSpec
from convoy.launch.where import Where

# What a job is doing. The last three are ends.
PENDING, RUNNING, RESTARTING = "pending", "running", "restarting"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
ENDS = (SUCCEEDED, FAILED, CANCELLED)
# Shapes of what places tell, whoever wrote it there: codes that a process ends with, moments that a calendar has.
RESTARTS, EXIT_CODE, MOMENT = whole(0, 1 << 31), (whole(0, 255), None), real(0, 2e11)
PHASE = frozenset((PENDING, RUNNING, RESTARTING, *ENDS))
TOLD = {"phase": PHASE, "reason": str, "restarts": RESTARTS, "exit_code": EXIT_CODE, "begun": MOMENT}


@dataclasses.dataclass(frozen=True)
class JobState:
    """What is known of a job now; exits.BadData for what cannot be."""

    name: str
    phase: str  # one of those above
    reason: str = ""  # why it waits, or why it ended; a sentence
    restarts: int = 0  # of the whole job
    digest: str = ""  # JobSpec.digest of what was submitted
    run_dir: str = ""
    exit_code: int | None = None  # of an end: that of `convoy train` where it is known
    begun: float = 0.0  # seconds since 1970

    def __post_init__(self) -> None:
        shapes.check(vars(self), {**TOLD, "digest": str, "run_dir": str}, f"job {self.name}")


class NoSuchJob(exits.CannotRun):
    """The place has no job of that name, or has it no more."""


class Target(Protocol):
    """A place for jobs. Every method raises a sentence with the next command when the place refuses or is away."""

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        """Begins a job and returns.

        The same spec while it runs, or after it has succeeded, changes nothing; another one under its name is refused
        (exits.CannotRun) unless `replace`.
        """

    def state(self, name: str) -> JobState:
        """NoSuchJob if there is none of that name."""

    def jobs(self) -> list[JobState]:
        """Every job that Convoy submitted there."""

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        """Lines of one worker, those of its last start first; `follow` goes on until the job ends."""

    def cancel(self, name: str) -> JobState:
        """Ends a job; the run is saved first if it can be. One that has ended is left alone."""

    def remove(self, name: str) -> None:
        """Removes what is left of a job that has ended, but not its run; CannotRun if it has not."""

    def describe(self, spec: JobSpec) -> str:
        """What `submit` would do, for --dry_run: documents and exact command lines. Touches nothing."""


def open_target(where: Where, chaos: str = "") -> Target:
    """The place that --target names; `chaos` are faults that only a rehearsal has."""
    if chaos and where.target != "local":
        raise exits.CannotRun(f"--chaos={chaos} is for rehearsals; give --target=local with it.")
    if where.target == "local":
        from convoy.launch.targets.local.target import LocalTarget

        return LocalTarget(chaos)
    if where.target == "k8s":
        from convoy.launch.targets.kubernetes.target import KubernetesTarget

        return KubernetesTarget(where.namespace, where.context)
    if where.target == "tpu-vm":
        from convoy.launch.targets.tpu_vm.target import TpuVmTarget

        return TpuVmTarget(where.project, where.zone)
    raise exits.CannotRun(f"--target={where.target} is none; give local, k8s or tpu-vm.")
