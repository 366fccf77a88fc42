"""What every target offers: before it is opened a Platform, then a Target with jobs in it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from convoy import exits, shapes
from convoy.accelerators import Accelerator
from convoy.bounds import real, whole
from convoy.counting import counted
from convoy.launch.flags import JobOptions, TargetOptions
from convoy.launch.job import JobSpec

# Phases of a job. The last three are ends.
PENDING, RUNNING, RESTARTING = "pending", "running", "restarting"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
ENDS = (SUCCEEDED, FAILED, CANCELLED)
# Shapes of reports: they hold possible exit codes and times, whoever wrote them.
RESTARTS, EXIT_CODE, TIME = whole(0, 1 << 31), (whole(0, 255), None), real(0, 2e11)
PHASE = frozenset((PENDING, RUNNING, RESTARTING, *ENDS))
REPORT = {"phase": PHASE, "reason": str, "restarts": RESTARTS, "exit_code": EXIT_CODE, "begun": TIME}


@dataclasses.dataclass(frozen=True)
class JobState:
    """What is known of a job now; exits.BadData for an impossible value."""

    name: str
    phase: str  # one of those above
    reason: str = ""  # why it waits, or why it ended; a sentence
    restarts: int = 0  # of the whole job
    digest: str = ""  # JobSpec.digest of what was submitted
    run_dir: str = ""
    exit_code: int | None = None  # of an end: that of `convoy train` where it is known
    begun: float = 0.0  # seconds since 1970

    def __post_init__(self) -> None:
        shapes.check(vars(self), {**REPORT, "digest": str, "run_dir": str}, f"job {self.name}")


class NoSuchJob(exits.CannotRun):
    """The target has no job of that name, or no longer has it."""


class Target(Protocol):
    """A place for jobs. Every method raises a sentence with the next command when the target refuses or does not answer."""

    poll_seconds: float  # between two questions about the same job

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        """Begins a job and returns.

        Submitting the same spec while it runs, or after it has succeeded, changes nothing. A different spec under its name is
        refused (exits.CannotRun) unless `replace`.
        """

    def state(self, name: str) -> JobState:
        """Raises NoSuchJob if there is none of that name."""

    def jobs(self) -> list[JobState]:
        """Every job that Convoy submitted there."""

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        """Lines of one worker, those of its last start first; `follow` goes on until the job ends."""

    def cancel(self, name: str) -> JobState:
        """Ends a job; the run is saved first if it can be. A job that has ended is left alone."""

    def remove(self, name: str) -> None:
        """Removes what is left of a job that has ended, but not its run; CannotRun if it has not ended."""

    def describe(self, spec: JobSpec) -> str:
        """What `submit` would do, for --dry_run: documents and exact command lines. Changes nothing."""


@runtime_checkable
class ArrayTarget(Target, Protocol):
    """A target that takes the jobs of a sweep at once, and itself keeps to how many may run at the same time."""

    def submit_many(self, specs: Sequence[JobSpec], at_once: int, replace: bool = False) -> list[JobState]:
        """As `submit`, of jobs that differ in name and run alone; at most `at_once` (1 or more) run at the same time."""

    def describe_many(self, specs: Sequence[JobSpec], at_once: int) -> str:
        """As `describe`, of such jobs."""


class Check(NamedTuple):
    """One check of `convoy launch doctor`."""

    subject: str
    examine: Callable[[], str]  # returns what it found, or raises a sentence that says how to mend it
    essential: bool = False  # if it fails, the checks of this target after it are skipped


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """A target without flags of its own."""


class Platform(abc.ABC):
    """A kind of target: its flags, its rules and how it is opened. Its row in names.py names a subclass.

    Its module must import nothing that not everybody has installed: help and validation read it.
    """

    target_options: type = NoOptions  # flags of every verb that say which place: a project, a namespace
    job_options: type = NoOptions  # flags of a job
    doctor_options: type = NoOptions  # flags of `convoy launch doctor`
    rehearses = False  # jobs run on this machine: name and run directory may be left out, and nothing has a price

    def check(self, spec: JobSpec) -> None:  # noqa: B027 - a target may have no rules of its own
        """Raises CannotRun for a job that this kind of target cannot run."""

    def warnings(self, options: JobOptions) -> Iterator[str]:
        """Sentences about a job that can be submitted, but perhaps should not."""
        yield from ()

    def gpus(self, options: JobOptions, accelerator: Accelerator) -> int | None:
        """GPUs of a worker where a job costs GPU hours; None where it costs dollars."""
        return None

    def render(self, spec: JobSpec) -> str:
        """The job as one document to be submitted by hand; CannotRun if this kind of target has none."""
        raise exits.CannotRun(
            f"--target={spec.options.target} has no documents; `convoy launch submit --dry_run` shows what it has."
        )

    @abc.abstractmethod
    def open(self, options: TargetOptions, chaos: str = "") -> Target:
        """The place that the flags name; `chaos` are faults for a rehearsal."""

    def doctor(self, options: TargetOptions) -> Iterator[Check]:
        """What to check, in order. `options` are an instance of target_options and of doctor_options too."""
        yield from ()


def state_or_failed(state: Callable[[str], JobState], name: str) -> JobState:
    """What `state` says of a job. One whose record cannot be read has failed, so that it is listed and can be removed."""
    try:
        return state(name)
    except exits.BadData as error:
        return JobState(name, FAILED, str(error), exit_code=error.code)


def check_worker(worker: int, job: str, workers: int) -> None:
    """Raises CannotRun for --worker of a job that has no such worker."""
    if not 0 <= worker < workers:
        raise exits.CannotRun(f"--worker={worker}: {job} has {counted(workers, 'worker')}, from 0 to {workers - 1}.")


def count_jobs(target: Target) -> str:
    """What `convoy launch doctor` says of a target that answers."""
    count = len(target.jobs())
    return f"{counted(count, 'job')} there"
