"""One job for each point of a grid."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import time

from convoy import exits
from launch.job import JobOptions, JobSpec, build
from launch.targets import ENDS, SUCCEEDED, JobState, Target
from trainer import config as configuration

_LONGEST = 40  # of a name
_RANGE = re.compile(r"(-?\d+):(-?\d+)")
LOOK_SECONDS = 5.0


def jobs(given: JobOptions, train: list[str], text: str) -> list[JobSpec]:
    """The job, or the jobs of a sweep, all of them valid.

    Args:
      given: the options of each; `name` is the begin of their names.
      train: flags of `convoy train`.
      text: FLAG=VALUE,VALUE;FLAG=FIRST:PAST_THE_LAST, or nothing.

    Raises:
      exits.UsageError: `text` does not read so.
      exits.CannotRun: a point that cannot be run.
    """
    found = []
    for point in points(text):
        run = configuration.from_argv([*train, *(f"--{flag}={value}" for flag, value in point)])
        if not point:
            found.append(build(given, run))
            continue
        tag = "-".join(f"{_short(flag)}{value}" for flag, value in point)
        named = dataclasses.replace(given, name=_name(given.name, tag))
        found.append(
            build(named, dataclasses.replace(run, run_dir=f"{run.run_dir.rstrip('/')}/{tag}" if run.run_dir else ""))
        )
    return found


def joined(argv: list[str]) -> list[str]:
    """Flags in which --sweep=A --sweep=B, or --sweep A, stands once: --sweep=A;B."""
    rest, axes, words = [], [], iter(argv)
    for word in words:
        if word in ("--sweep", "-sweep"):
            axes.append(next(words, ""))
        elif word.startswith(("--sweep=", "-sweep=")):
            axes.append(word.partition("=")[2])
        else:
            rest.append(word)
    return [*rest, f"--sweep={';'.join(axes)}"] if axes else rest


def points(text: str) -> list[tuple[tuple[str, str], ...]]:
    """The combinations of a grid, each with its (flag, value) pairs, in the order of the text; one empty point for none."""
    axes = []
    for axis in filter(None, text.split(";")):
        flag, separator, values = axis.strip().partition("=")
        if not separator or not flag.isidentifier() or not values:
            raise exits.UsageError(f"--sweep={text}: `{axis}` is not FLAG=VALUE,VALUE or FLAG=FIRST:PAST_THE_LAST.")
        if span := _RANGE.fullmatch(values):
            chosen = [str(number) for number in range(int(span[1]), int(span[2]))]
        else:
            chosen = values.split(",")
        if not chosen or len(set(chosen)) < len(chosen):
            raise exits.UsageError(f"--sweep={text}: `{axis}` has no value, or one of them twice.")
        axes.append([(flag, value) for value in chosen])
    return list(itertools.product(*axes))


def run(target: Target, specs: list[JobSpec], most: int, replace: bool) -> int:
    """Submits all, at most so many at the same time, and stays until the last has ended.

    Returns OK if all succeed, else the exit code of the first that did not.
    """
    waiting, code = list(specs), exits.OK
    going: list[str] = []
    while waiting or going:
        while waiting and len(going) < most:
            state = target.submit(waiting.pop(0), replace)
            print(_line(state), flush=True)
            going.append(state.name)
        for name in list(going):
            state = target.state(name)
            if state.phase in ENDS:
                going.remove(name)
                print(_line(state), flush=True)
                if state.phase != SUCCEEDED:
                    code = code or state.exit_code or exits.BUG
        if going and (len(going) == most or not waiting):
            time.sleep(LOOK_SECONDS)
    return code


def _line(state: JobState) -> str:
    return f"{state.name}: {state.phase}{f', {state.reason}' if state.reason else ''}"


def _short(flag: str) -> str:
    """learning_rate -> lr, seed -> seed."""
    words = flag.split("_")
    return "".join(word[0] for word in words) if len(words) > 1 else flag


def _name(begin: str, tag: str) -> str:
    """A name made of both: as it is where it can be, else cut, with a digest that keeps it apart from others."""
    wanted = f"{begin}-{tag}".lower()
    clean = re.sub(r"[^a-z0-9-]+", "-", wanted).strip("-")
    if clean == wanted and len(clean) <= _LONGEST:
        return clean
    digest = hashlib.sha256(f"{begin}-{tag}".encode()).hexdigest()[:6]
    return f"{clean[: _LONGEST - 7].rstrip('-')}-{digest}"
