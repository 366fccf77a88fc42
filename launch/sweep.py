"""One job for each point of a grid (grid.py), and a limit on how many run at the same time."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from convoy import exits
from convoy.launch import follow
from convoy.launch.build import build
from convoy.launch.command_line import read_run
from convoy.launch.flags import MAX_NAME_CHARACTERS, JobOptions
from convoy.launch.grid import points
from convoy.launch.job import JobSpec
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import ENDS, ArrayTarget, JobState, NoSuchJob, Target
from convoy.trainer.config import RunConfig


def jobs(given: JobOptions, train: list[str], text: str) -> list[JobSpec]:
    """The job, or the jobs of a sweep, all of them valid.

    Args:
      given: the options of each; their names begin with its `name`.
      train: flags of `convoy train`.
      text: --sweep, as grid.points reads it. Points that are the same run make one job, and a note says so.

    Raises:
      exits.UsageError: `text` has another form.
      exits.CannotRun: a point that cannot be run, or more than MAX_JOBS points.
    """
    specs: dict[RunConfig, JobSpec] = {}
    equal: list[str] = []
    for point in points(text):
        run = asked = read_run([*train, *(f"--{flag}={value}" for flag, value in point)])
        tag = "-".join(f"{_short(flag)}{value}" for flag, value in point)
        if asked in specs:
            equal.append(tag)
            continue
        if point and run.run_dir:
            # A slash in a value would put one run into the directory of another.
            run = dataclasses.replace(run, run_dir=f"{run.run_dir.rstrip('/')}/{quote(tag, safe='+:=,@')}")
        named = dataclasses.replace(given, name=_name(given.name, tag)) if point else given
        specs[asked] = build(named, run)
    if equal:
        listed = f"{', '.join(equal[:3])}{' and more' * (len(equal) > 3)}"
        print(f"convoy: --sweep={text} has equal values; no second job for {listed}.", file=sys.stderr)
    return list(specs.values())


def submit_all(
    target: Target,
    specs: Sequence[JobSpec],
    max_parallel: int = 4,
    replace: bool = False,
    report: Callable[[JobState], object] = lambda state: None,
) -> list[JobState]:
    """Submits jobs, at most `max_parallel` at the same time, and returns once the last has ended.

    The same call again continues: it waits for jobs that run, keeps those that have succeeded, and begins failed ones again.

    Args:
      target: where.
      specs: jobs of different names.
      max_parallel: 1 or more.
      replace: end other jobs of these names.
      report: called with each new state.

    Returns:
      How each job ended, in the order of `specs`; that some have failed is no error.

    Raises:
      exits.CannotRun: before anything begins, for two jobs of one name and a name that is taken. Else what the target raises;
        jobs that have begun go on.
    """
    if max_parallel < 1:
        raise exits.CannotRun(f"--max_parallel={max_parallel} is not possible: give 1 or more.")
    if len({spec.name for spec in specs}) < len(specs):
        raise exits.CannotRun("two jobs have the same --name; give each its own.")
    if taken := [] if replace else [spec.name for spec in specs if _taken(target, spec)]:
        raise exits.CannotRun(
            f"{', '.join(taken)}: of that name there is another job; nothing was submitted. Give --replace, or another --name."
        )
    waiting = list(specs)
    running: dict[str, JobState] = {}
    ended: dict[str, JobState] = {}
    outage = OutageTolerance()
    if isinstance(target, ArrayTarget):  # it begins them itself, in their order
        running = {state.name: state for state in target.submit_many(waiting, max_parallel, replace)}
        waiting.clear()
        for state in running.values():
            report(state)
    while waiting or running:
        with outage.tolerate():
            while waiting and len(running) < max_parallel:
                state = target.submit(waiting[0], replace)
                running[state.name] = state
                del waiting[0]
                report(state)
            for name, last in list(running.items()):
                state = running[name] = follow.look(target, name, last)
                if state.phase != last.phase:
                    report(state)
                if state.phase in ENDS:
                    ended[name] = running.pop(name)
        if outage.since or len(running) == max_parallel or (running and not waiting):
            time.sleep(target.poll_seconds)
    return [ended[spec.name] for spec in specs]


def _taken(target: Target, spec: JobSpec) -> bool:
    """Whether another job has its name."""
    try:
        return target.state(spec.name).digest != spec.digest
    except NoSuchJob:
        return False


def _short(flag: str) -> str:
    """learning_rate -> lr, seed -> seed."""
    words = flag.split("_")
    return "".join(word[0] for word in words) if len(words) > 1 else flag


def _name(prefix: str, tag: str) -> str:
    """Both parts joined; a name that is impossible or too long is cut, with a digest that tells it from others."""
    wanted = f"{prefix}-{tag}"
    clean = re.sub(r"[^a-z0-9-]+", "-", wanted.lower()).strip("-")
    if clean == wanted and len(clean) <= MAX_NAME_CHARACTERS:
        return clean
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
    return f"{clean[: MAX_NAME_CHARACTERS - 7].rstrip('-')}-{digest}"
