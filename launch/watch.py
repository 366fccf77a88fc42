"""`convoy launch status | logs | wait | cancel | list | gc`: jobs that were submitted."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from typing import Any

from convoy import exits, options, outside, streams
from convoy.bounds import real, whole
from convoy.launch.flags import MAX_WORKERS, JobName, TargetOptions
from convoy.launch.follow import going_on, line, until_the_end
from convoy.launch.targets.base import CANCELLED, ENDS, JobState
from convoy.launch.targets.names import open_target
from convoy.launch.targets.options import target_options
from convoy.options import option
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer.run_dir.files import STATUS
from convoy.verbs import verb

USAGE = "usage: convoy launch {} [--flag=value ...]\n\n{}"


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """Which lines."""

    worker: int = option(0, "of which worker.", group="Log", within=whole(0, MAX_WORKERS - 1))
    follow: bool = option(False, "go on until the job ends.", group="Log")

    def __post_init__(self) -> None:
        options.check(self)


@dataclasses.dataclass(frozen=True)
class WaitOptions:
    """How long."""

    timeout: float = option(
        0.0, "seconds after which to give up, with 42 (0: never).", group="Wait", within=real(0, 1e9)
    )

    def __post_init__(self) -> None:
        options.check(self)


@verb(USAGE.format("status --name=NAME", "Says what a job is doing and how far its run is."), JobName, target_options)
def status(job: JobName, place: TargetOptions) -> None:
    """The verb."""
    state = open_target(place).state(job.name)
    print(line(state))
    for name, value in _details(state):
        print(f"  {name:<10} {printable(value)}")


@verb(USAGE.format("logs --name=NAME", "Prints what a worker printed."), JobName, LogOptions, target_options)
def logs(job: JobName, given: LogOptions, place: TargetOptions) -> None:
    """The verb."""
    for text in open_target(place).logs(job.name, given.worker, given.follow):
        # Each state of a progress bar becomes a line; colours and other control sequences are printed as escapes.
        for part in text.removesuffix("\r").split("\r"):
            print(printable(part, keep="\t"), flush=given.follow)
        if not streams.is_read():
            return


@verb(
    USAGE.format(
        "wait --name=NAME",
        "Stays until a job has ended. Exit code 0 if it succeeded, else that of its run, 130 if it was cancelled.",
    ),
    JobName,
    WaitOptions,
    target_options,
)
def wait(job: JobName, given: WaitOptions, place: TargetOptions) -> int:
    """The verb."""
    with going_on(job.name, place):
        return until_the_end(open_target(place), job.name, given.timeout)


@verb(USAGE.format("cancel --name=NAME", "Ends a job; its run is saved first if it can be."), JobName, target_options)
def cancel(job: JobName, place: TargetOptions) -> None:
    """The verb."""
    print(line(open_target(place).cancel(job.name)))


@verb(USAGE.format("list", "Lists the jobs that were submitted there, the newest last."), target_options)
def jobs(place: TargetOptions) -> None:
    """The verb `list`."""
    states = sorted(open_target(place).jobs(), key=lambda state: state.begun)
    for state in states:
        print(line(state))
    if not states:
        print("No jobs.")


@verb(USAGE.format("gc", "Removes what is left of jobs that have ended; their runs stay."), target_options)
def collect(place: TargetOptions) -> int:
    """The verb `gc`."""
    target = open_target(place)
    code = exits.OK
    for state in target.jobs():
        if state.phase not in ENDS:
            continue
        try:
            target.remove(state.name)
        except (exits.BadData, exits.CannotRun) as error:  # only this job stays; the others are removed
            print(f"convoy: {printable(str(error))}", file=sys.stderr)
            code = code or error.code
        else:
            print(f"{printable(state.name)}: removed, it {'was' if state.phase == CANCELLED else 'had'} {state.phase}")
    return code


def _details(state: JobState) -> list[tuple[str, str]]:
    """Name and value of what the run has written in its directory."""
    rows = [("submitted", _time(state.begun))] if state.begun else []
    if not state.run_dir:
        return rows
    rows.append(("run", state.run_dir))
    try:
        status = outside.parse_object(open_store(state.run_dir).get(STATUS), f"{state.run_dir}/{STATUS}")
        return rows + _progress(status, state.phase in ENDS)
    except FileNotFoundError:
        pass
    except exits.ConvoyError as error:
        print(f"convoy: {printable(str(error))}", file=sys.stderr)
    except (ArithmeticError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        print(f"convoy: {printable(state.run_dir)}/{STATUS} is not what a run writes.", file=sys.stderr)
    return [*rows, ("step", "not yet known")]


def _progress(status: dict[str, Any], ended: bool) -> list[tuple[str, str]]:
    """The rows of a status.json that trainer/outputs/status.py wrote."""
    rows = [("step", f"{status['step']:,} of {status['total']:,}, epoch {status['epoch']:.1f}")]
    if status["images_per_second"]:
        rows.append(("speed", f"{status['images_per_second']:,.0f} images/s"))
    if status["loss"] is not None:
        rows.append(("loss", f"{status['loss']:.4f}"))
    if status["eta_seconds"] and not ended:
        rows.append(("ETA", str(datetime.timedelta(seconds=round(status["eta_seconds"])))))
    return [*rows, ("updated", _time(status["updated"]))]


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
