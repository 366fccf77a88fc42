"""`convoy launch render`: the documents of a job, for kubectl."""

from __future__ import annotations

from convoy import exits
from convoy.launch.build import build
from convoy.launch.command_line import parse, read_run, split
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.options import job_options
from convoy.verbs import Verb

USAGE = """usage: convoy launch render --name=NAME --image=REF [--flag=value ...] -- [flags of `convoy train`]

Prints the documents of a job for Kubernetes, and nothing else: ... | kubectl apply -f -"""


def _parse(argv: list[str]) -> JobSpec:
    own, train = split(argv)
    # The digest in the documents is that of the job that `submit --target=k8s` would begin.
    given = job_options()(**parse(["--target=k8s", *own], job_options()))
    if given.target != "k8s":
        raise exits.CannotRun(
            f"--target={given.target} has no documents; `convoy launch submit --dry_run` shows what it has."
        )
    return build(given, read_run(train))


def _render(spec: JobSpec) -> None:
    print(documents.to_yaml(manifest.render(spec)), end="")


render = Verb(USAGE, (job_options,), _parse, _render)
