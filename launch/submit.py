"""`convoy launch submit`: one job, or one for each point of a sweep."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence

from convoy import exits, options, supervise
from convoy.bounds import whole
from convoy.launch import follow, grid, prices, sweep
from convoy.launch.command_line import job_and_run, parse, split
from convoy.launch.flags import JobOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import SUCCEEDED, ArrayTarget, JobState
from convoy.launch.targets.names import open_target, platform
from convoy.launch.targets.options import job_options
from convoy.options import option
from convoy.verbs import Verb

USAGE = """usage: convoy launch submit --name=NAME [--flag=value ...] -- --run_dir=PATH [flags of `convoy train`]

Begins a job and returns. The same job again changes nothing while it runs and after it has succeeded. A sweep stays until the
last of its jobs has ended. A rehearsal needs neither --run_dir nor --name: the first is made up, the second its last part."""


@dataclasses.dataclass(frozen=True)
class SubmitOptions:
    """How to submit."""

    dry_run: bool = option(False, "say what would be done, and what it costs; touch nothing.", group="Submission")
    replace: bool = option(False, "end another job of this name first.", group="Submission")
    wait: bool = option(False, "stay until the job ends; the exit code is the job's.", group="Submission")
    chaos: str = option(
        "",
        "local: faults to rehearse, comma-separated: kill:worker-1@step=40, term:worker-0@step=40, dns:worker-1.",
        group="Submission",
    )
    sweep: str = option(
        "",
        "one job for each combination of values of flags of `convoy train`, FLAG=VALUE,VALUE or FLAG=FIRST:PAST_THE_LAST, once"
        " for each flag: --sweep learning_rate=0.1,0.2 --sweep seed=0:3. A value with commas stands in quotes. Names and run"
        " directories are the job's with the values added.",
        group="Submission",
    )
    max_parallel: int = option(
        4, "how many jobs of a sweep run at the same time.", group="Submission", within=whole(1, 10_000)
    )

    def __post_init__(self) -> None:
        options.check(self)


def _parse(argv: list[str]) -> tuple[JobOptions, list[str], SubmitOptions]:
    """The job's options, the flags of its run, how to submit."""
    own, train = split(argv)
    parsed = parse(grid.joined(own), job_options(), SubmitOptions)
    how = SubmitOptions(**options.take(SubmitOptions, parsed))
    given, run = job_and_run(parsed, train)
    return given, [*train, f"--run_dir={run.run_dir}"], how


def _submit(submission: tuple[JobOptions, list[str], SubmitOptions]) -> int:
    given, train, how = submission
    specs = sweep.jobs(given, train, how.sweep)
    target = open_target(given, how.chaos)
    for warning in _warnings(given):
        print(f"convoy: {warning}", file=sys.stderr)
    if how.dry_run:
        for spec in specs:
            if not platform(spec.options.target).rehearses:
                print(textwrap.indent(prices.job_cost(spec), "# "))
            if not (how.sweep and isinstance(target, ArrayTarget)):
                print(target.describe(spec))
        if how.sweep and isinstance(target, ArrayTarget):
            print(target.describe_many(specs, how.max_parallel))
        return exits.OK
    if how.sweep:
        with follow.interrupted(
            "the jobs that have begun go on; the same command waits for them and begins the others."
        ):
            ends = sweep.submit_all(target, specs, how.max_parallel, how.replace, _report)
        _compare(specs, ends)
        return next(filter(None, map(follow.exit_code, ends)), exits.OK)
    status = follow.command("status", given.name, given)
    with follow.interrupted(f"{status} says whether {given.name} has begun."):
        state = target.submit(specs[0], how.replace)
    if how.wait:
        with follow.going_on(given.name, given):
            return follow.until_the_end(target, given.name)
    _report(state)
    print(f"{status} says how it goes.", file=sys.stderr)
    return exits.OK


def _warnings(given: JobOptions) -> Iterator[str]:
    if given.image and "@sha256:" not in given.image:
        yield f"--image={given.image} is no digest: a pod that starts later may get another image."
    yield from platform(given.target).warnings(given)


def _report(state: JobState) -> None:
    print(follow.line(state), flush=True)


submit = Verb(USAGE, (job_options, SubmitOptions), _parse, _submit)


def _compare(specs: Sequence[JobSpec], ends: Sequence[JobState]) -> None:
    """Writes the page that compares the runs of a sweep which have finished, beside their directories. It fails nothing."""
    run_dirs = [spec.run.run_dir for spec, end in zip(specs, ends, strict=True) if end.phase == SUCCEEDED]
    if len(run_dirs) < 2:
        return
    output = f"{run_dirs[0].rstrip('/').rpartition('/')[0]}/comparison.html"
    command = supervise.module("convoy", ["report", f"--output={output}", "--", *run_dirs])  # in a process: it is heavy
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout if done.returncode == exits.OK else done.stderr).strip()
    print(
        f"{said}: the runs of the sweep compared" if done.returncode == exits.OK else f"Not compared: {said}",
        file=sys.stderr,
    )
