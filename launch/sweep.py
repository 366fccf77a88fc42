"""One job for each point of a grid, and a limit on how many run at the same time."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from convoy import exits
from convoy.launch import follow
from convoy.launch.build import build
from convoy.launch.command_line import read_run
from convoy.launch.flags import MAX_NAME_CHARACTERS, JobOptions
from convoy.launch.job import JobSpec
from convoy.launch.outage import OutageTolerance
from convoy.launch.targets.base import ENDS, JobState, NoSuchJob, Target

_RANGE = re.compile(r"(-?\d{1,18}):(-?\d{1,18})", re.ASCII)
MAX_JOBS = 10_000


def jobs(given: JobOptions, train: list[str], text: str) -> list[JobSpec]:
    """The job, or the jobs of a sweep, all of them valid.

    Args:
      given: the options of each; their names begin with its `name`.
      train: flags of `convoy train`.
      text: FLAG=VALUE,VALUE;FLAG=FIRST:PAST_THE_LAST, or empty.

    Raises:
      exits.UsageError: `text` has another form.
      exits.CannotRun: a point that cannot be run, or more than MAX_JOBS points.
    """
    specs = []
    for point in points(text):
        run = read_run([*train, *(f"--{flag}={value}" for flag, value in point)])
        if not point:
            specs.append(build(given, run))
            continue
        tag = "-".join(f"{_short(flag)}{value}" for flag, value in point)
        if run.run_dir:
            # A slash in a value would put one run into the directory of another.
            run = dataclasses.replace(run, run_dir=f"{run.run_dir.rstrip('/')}/{quote(tag, safe='+:=,@')}")
        specs.append(build(dataclasses.replace(given, name=_name(given.name, tag)), run))
    return specs


def joined(argv: list[str]) -> list[str]:
    """The flags with --sweep=A --sweep=B, or --sweep A, joined into one: --sweep=A;B."""
    rest = []
    axes = []
    words = iter(argv)
    for word in words:
        if word in ("--sweep", "-sweep"):
            axes.append(next(words, ""))
        elif word.startswith(("--sweep=", "-sweep=")):
            axes.append(word.partition("=")[2])
        else:
            rest.append(word)
    if not all(axes):
        raise exits.UsageError("--sweep is empty; give FLAG=VALUE,VALUE or FLAG=FIRST:PAST_THE_LAST.")
    return [*rest, f"--sweep={';'.join(axes)}"] if axes else rest


def points(text: str) -> list[tuple[tuple[str, str], ...]]:
    """The combinations of a grid, each a tuple of (flag, value), in the order of the text; one empty point for no text."""
    axes: dict[str, list[tuple[str, str]]] = {}
    for axis in filter(None, text.split(";")):
        flag, separator, values = axis.strip().partition("=")
        if not separator or not flag.isidentifier() or not values:
            raise exits.UsageError(f"--sweep={text}: `{axis}` is not FLAG=VALUE,VALUE or FLAG=FIRST:PAST_THE_LAST.")
        if flag in axes:
            raise exits.UsageError(f"--sweep={text} has {flag} twice; give all of its values at once.")
        if match := _RANGE.fullmatch(values):
            numbers = range(int(match[1]), int(match[2]))
            _check_count(text, len(numbers))
            chosen = [str(number) for number in numbers]
        else:
            chosen = values.split(",")
        if not chosen or len(set(chosen)) < len(chosen):
            raise exits.UsageError(f"--sweep={text}: `{axis}` has no value, or one of them twice.")
        axes[flag] = [(flag, value) for value in chosen]
    _check_count(text, math.prod(map(len, axes.values())))
    return list(itertools.product(*axes.values()))


def _check_count(text: str, count: int) -> None:
    if count > MAX_JOBS:
        raise exits.CannotRun(f"--sweep={text} is {count:,} jobs, and {MAX_JOBS:,} are possible; give fewer values.")


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
