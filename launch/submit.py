"""`convoy launch submit | render`: one job, or one for each point of a sweep."""

from __future__ import annotations

import dataclasses
import sys
import textwrap

from convoy import exits, options
from convoy.options import option
from launch import prices, sweep, watch
from launch.job import JobOptions, JobSpec, split
from launch.targets import JobState, Target, open_target

USAGE = """usage: convoy launch submit --name=NAME [--flag=value ...] -- [flags of `convoy train`]

Begins a job and returns. The same job again changes nothing while it runs and after it has succeeded."""

RENDER_USAGE = """usage: convoy launch render --name=NAME --image=REF [--flag=value ...] -- [flags of `convoy train`]

Prints the documents of a job for Kubernetes, and nothing else: ... | kubectl apply -f -"""


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
        " for each flag: --sweep learning_rate=0.1,0.2 --sweep seed=0:3. Their names and run directories are the job's with the"
        " values added.",
        group="Submission",
    )
    max_parallel: int = option(4, "how many jobs of a sweep run at the same time.", group="Submission")


def submit(argv: list[str]) -> int:
    """The verb."""
    own, train = split(argv)
    if options.wants_help(own):
        print(options.help_text(USAGE, JobOptions, SubmitOptions))
        return exits.OK
    parsed = options.parse(sweep.joined(own), JobOptions, SubmitOptions)
    how = SubmitOptions(**options.take(SubmitOptions, parsed))
    specs = sweep.jobs(JobOptions(**options.take(JobOptions, parsed)), train, how.sweep)
    target = open_target(specs[0].options, how.chaos)
    if (image := specs[0].options.image) and "@sha256:" not in image:
        print(f"convoy: --image={image} is no digest: a pod that starts later may get another image.", file=sys.stderr)
    if how.dry_run:
        for spec in specs:
            if spec.options.target != "local":
                print(textwrap.indent(prices.of_job(spec), "# "))
            print(target.describe(spec))
        return exits.OK
    if len(specs) > 1:
        return sweep.run(target, specs, how.max_parallel, how.replace)
    state = target.submit(specs[0], how.replace)
    if how.wait:
        return watch.until_the_end(target, state.name)
    print(watch.line(state))
    print(
        f"`convoy launch status --name={state.name}{watch.place(specs[0].options)}` says how it goes.", file=sys.stderr
    )
    return exits.OK


def submit_all(target: Target, specs: list[JobSpec], replace: bool = False) -> list[JobState]:
    """Begins jobs, for studies."""
    return [target.submit(spec, replace) for spec in specs]


def render(argv: list[str]) -> int:
    """The verb."""
    from launch import documents, manifest
    from launch.job import from_argv

    if options.wants_help(split(argv)[0]):
        print(options.help_text(RENDER_USAGE, JobOptions))
        return exits.OK
    print(documents.to_yaml(manifest.render(from_argv(argv))), end="")
    return exits.OK
