"""`convoy launch status | logs | wait | cancel | list | gc`: jobs that were submitted."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
import time
from collections.abc import Iterator
from typing import Any

from convoy import exits, options, outside
from convoy.bounds import real, whole
from convoy.launch import shell
from convoy.launch.flags import MAX_WORKERS, JobName, TargetOptions
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, SUCCEEDED, JobState, NoSuchJob, Target
from convoy.launch.targets.names import open_target
from convoy.launch.targets.options import target_options
from convoy.options import option
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer.run_dir.files import STATUS


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


def status(argv: list[str]) -> int:
    """The verb."""
    parsed = _parsed(argv, "status --name=NAME", "Says what a job is doing and how far its run is.", JobName)
    if parsed is None:
        return exits.OK
    state = _target(parsed).state(JobName(**options.take(JobName, parsed)).name)
    print(line(state))
    for name, value in _details(state):
        print(f"  {name:<10} {printable(value)}")
    return exits.OK


def logs(argv: list[str]) -> int:
    """The verb."""
    parsed = _parsed(argv, "logs --name=NAME", "Prints what a worker printed.", JobName, LogOptions)
    if parsed is None:
        return exits.OK
    name = JobName(**options.take(JobName, parsed)).name
    for text in _target(parsed).logs(name, parsed["worker"], parsed["follow"]):
        # Every state of a progress bar is a line of its own; colours and all else that a terminal obeys are shown as escapes.
        for part in text.removesuffix("\r").split("\r"):
            print(printable(part, keep="\t"), flush=parsed["follow"])
    return exits.OK


def wait(argv: list[str]) -> int:
    """The verb."""
    what = "Stays until a job has ended. Exit code 0 if it succeeded, else that of its run, 130 if it was cancelled."
    parsed = _parsed(argv, "wait --name=NAME", what, JobName, WaitOptions)
    if parsed is None:
        return exits.OK
    name, timeout = (
        JobName(**options.take(JobName, parsed)).name,
        WaitOptions(**options.take(WaitOptions, parsed)).timeout,
    )
    with going_on(name, _place(parsed)):
        return until_the_end(_target(parsed), name, timeout)


def cancel(argv: list[str]) -> int:
    """The verb."""
    parsed = _parsed(argv, "cancel --name=NAME", "Ends a job; its run is saved first if it can be.", JobName)
    if parsed is None:
        return exits.OK
    print(line(_target(parsed).cancel(JobName(**options.take(JobName, parsed)).name)))
    return exits.OK


def jobs(argv: list[str]) -> int:
    """The verb `list`."""
    parsed = _parsed(argv, "list", "Lists the jobs that were submitted there, the newest last.")
    if parsed is None:
        return exits.OK
    found = sorted(_target(parsed).jobs(), key=lambda state: state.begun)
    for state in found:
        print(line(state))
    if not found:
        print("No jobs.")
    return exits.OK


def collect(argv: list[str]) -> int:
    """The verb `gc`."""
    parsed = _parsed(argv, "gc", "Removes what is left of jobs that have ended; their runs stay.")
    if parsed is None:
        return exits.OK
    target, code = _target(parsed), exits.OK
    for state in target.jobs():
        if state.phase not in ENDS:
            continue
        try:
            target.remove(state.name)
        except (exits.BadData, exits.CannotRun) as error:  # of this job; the others are removed
            print(f"convoy: {printable(str(error))}", file=sys.stderr)
            code = code or error.code
        else:
            print(f"{printable(state.name)}: removed, it {'was' if state.phase == CANCELLED else 'had'} {state.phase}")
    return code


def until_the_end(target: Target, name: str, timeout: float = 0.0) -> int:
    """Tells every change of a job until it ends; the exit code of `wait`."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    state: JobState | None = None
    outage = OutageTolerance()
    while True:
        with outage.tolerate(state is not None):
            last, state = state, look(target, name, state)
            if last is None or line(state) != line(last):
                print(line(state), flush=True)
            if state.phase in ENDS:
                return exit_code(state)
        if time.monotonic() > deadline:
            raise exits.TryAgain(f"{name} has not ended within --timeout={timeout:g} s; it goes on, wait again.")
        time.sleep(target.poll_seconds)


def look(target: Target, name: str, last: JobState | None) -> JobState:
    """What a job is doing. One that was there at the last look and is gone was cancelled: nothing else removes it so soon."""
    try:
        return target.state(name)
    except NoSuchJob:
        if last is None:
            raise
        return dataclasses.replace(last, phase=CANCELLED, reason="it was removed")


@contextlib.contextmanager
def interrupted(sentence: str) -> Iterator[None]:
    """Within, Ctrl-C is the error exits.Stopped with this sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise exits.Stopped(sentence) from None


def going_on(name: str, place: TargetOptions) -> contextlib.AbstractContextManager[None]:
    """Within, Ctrl-C leaves the job alone and says so."""
    return interrupted(f"{name} goes on; {command('wait', name, place)} waits for it again, and `cancel` ends it.")


def exit_code(state: JobState) -> int:
    """That of the command that waited for a job which has ended."""
    if state.phase == SUCCEEDED:
        return exits.OK
    if state.phase == CANCELLED:
        return exits.STOPPED
    return state.exit_code or exits.BUG


def line(state: JobState) -> str:
    """A job in one line, which a terminal shows and does not obey."""
    parts = [f"{state.name}: {state.phase}"]
    if state.restarts:
        parts.append(f"{state.restarts} restart{'s' * (state.restarts > 1)}")
    if state.phase == FAILED and state.exit_code:
        parts.append(f"exit code {state.exit_code}")
    if state.reason:
        parts.append(state.reason)
    return printable(", ".join(parts))


def command(verb: str, name: str, place: TargetOptions) -> str:
    """The command that a sentence tells somebody to give; flags of the target with their default are left out."""
    fields = options.fields(target_options())
    values = ((field, getattr(place, field.name)) for field in fields)
    flags = options.to_flags((field.name, value) for field, value in values if value != field.default)
    return f"`{shell.line(['convoy', 'launch', verb, f'--name={name}', *flags])}`"


def _parsed(argv: list[str], usage: str, what: str, *classes: type) -> dict[str, Any] | None:
    """The flags; None once --help is printed."""
    classes = (*classes, target_options())
    if options.wants_help(argv):
        print(options.help_text(f"usage: convoy launch {usage} [--flag=value ...]\n\n{what}", *classes))
        return None
    return options.parse(argv, *classes)


def _place(parsed: dict[str, Any]) -> TargetOptions:
    return target_options()(**options.take(target_options(), parsed))


def _target(parsed: dict[str, Any]) -> Target:
    return open_target(_place(parsed))


def _details(state: JobState) -> list[tuple[str, str]]:
    """What the run itself says in its directory."""
    rows = [("submitted", _moment(state.begun))] if state.begun else []
    if not state.run_dir:
        return rows
    rows.append(("run", state.run_dir))
    try:
        found = outside.parse_object(open_store(state.run_dir).get(STATUS), f"{state.run_dir}/{STATUS}")
        return rows + _progress(found, state.phase in ENDS)
    except FileNotFoundError:
        pass
    except exits.ConvoyError as error:
        print(f"convoy: {printable(str(error))}", file=sys.stderr)
    except (ArithmeticError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        print(f"convoy: {printable(state.run_dir)}/{STATUS} is not what a run writes.", file=sys.stderr)
    return [*rows, ("step", "not yet known")]


def _progress(found: dict[str, Any], over: bool) -> list[tuple[str, str]]:
    """What trainer/outputs/status.py wrote."""
    rows = [("step", f"{found['step']:,} of {found['total']:,}, epoch {found['epoch']:.1f}")]
    if found["images_per_second"]:
        rows.append(("speed", f"{found['images_per_second']:,.0f} images/s"))
    if found["loss"] is not None:
        rows.append(("loss", f"{found['loss']:.4f}"))
    if found["eta_seconds"] and not over:
        rows.append(("ETA", str(datetime.timedelta(seconds=round(found["eta_seconds"])))))
    return [*rows, ("updated", _moment(found["updated"]))]


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
