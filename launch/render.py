"""`convoy launch render`: a job as the document that is submitted: for kubectl, or for sbatch."""

from __future__ import annotations

from convoy.launch.build import build
from convoy.launch.command_line import parse, read_run, split
from convoy.launch.job import JobSpec
from convoy.launch.targets.names import platform
from convoy.launch.targets.options import job_options
from convoy.verbs import Verb

USAGE = """usage: convoy launch render --name=NAME [--flag=value ...] -- [flags of `convoy train`]

Prints a job's documents for Kubernetes, or with --target=slurm its script, and nothing else: ... | kubectl apply -f -, or
... | sbatch."""


def _parse(argv: list[str]) -> JobSpec:
    own, train = split(argv)
    # The digest in the documents is that of the job that `submit --target=k8s` would begin.
    given = job_options()(**parse(["--target=k8s", *own], job_options()))
    return build(given, read_run(train))


def _render(spec: JobSpec) -> None:
    print(platform(spec.options.target).render(spec), end="")


render = Verb(USAGE, (job_options,), _parse, _render)
