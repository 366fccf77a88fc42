"""Following a job to its end: the lines printed about it, and the exit code of the command that waits."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from convoy import exits, options
from convoy.counting import counted
from convoy.launch import shell
from convoy.launch.flags import TargetOptions
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, SUCCEEDED, JobState, NoSuchJob, Target
from convoy.launch.targets.options import target_options
from convoy.outside import printable


def until_the_end(target: Target, name: str, timeout: float = 0.0) -> int:
    """Prints each change of a job until it ends; returns the exit code of `wait`."""
    deadline = time.monotonic() + timeout if timeout else float("inf")
    state: JobState | None = None
    outage = OutageTolerance()
    while True:
        with outage.tolerate(state is not None):
            last = state
            state = look(target, name, last)
            if last is None or line(state) != line(last):
                print(line(state), flush=True)
            if state.phase in ENDS:
                return exit_code(state)
        if time.monotonic() > deadline:
            raise exits.TryAgain(f"{name} has not ended within --timeout={timeout:g} s; it goes on, wait again.")
        time.sleep(target.poll_seconds)


def look(target: Target, name: str, last: JobState | None) -> JobState:
    """The state of a job now. A job that `last` saw and that is gone was cancelled: nothing else removes it so soon."""
    try:
        return target.state(name)
    except NoSuchJob:
        if last is None:
            raise
        return dataclasses.replace(last, phase=CANCELLED, reason="it was removed")


@contextlib.contextmanager
def interrupted(sentence: str) -> Iterator[None]:
    """Turns Ctrl-C inside into exits.Stopped with this sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise exits.Stopped(sentence) from None


def going_on(name: str, place: TargetOptions) -> contextlib.AbstractContextManager[None]:
    """Says, after Ctrl-C inside, that the job goes on."""
    return interrupted(f"{name} goes on; {command('wait', name, place)} waits for it again, and `cancel` ends it.")


def exit_code(state: JobState) -> int:
    """The exit code of a command that waited for this job, which has ended."""
    if state.phase == SUCCEEDED:
        return exits.OK
    if state.phase == CANCELLED:
        return exits.STOPPED
    return state.exit_code or exits.BUG


def line(state: JobState) -> str:
    """A job in one line, with control characters escaped."""
    parts = [f"{state.name}: {state.phase}"]
    if state.restarts:
        parts.append(counted(state.restarts, "restart"))
    if state.phase == FAILED and state.exit_code:
        parts.append(f"exit code {state.exit_code}")
    if state.reason:
        parts.append(state.reason)
    return printable(", ".join(parts))


def command(verb: str, name: str, place: TargetOptions) -> str:
    """The command that a sentence recommends; flags of the target with their default are left out."""
    fields = options.fields(target_options())
    values = ((field, getattr(place, field.name)) for field in fields)
    flags = options.to_flags((field.name, value) for field, value in values if value != field.default)
    return f"`{shell.line(['convoy', 'launch', verb, f'--name={name}', *flags])}`"
