"""`convoy launch render`: the documents of a job, for kubectl."""

from __future__ import annotations

from convoy import exits, options
from convoy.launch.build import build
from convoy.launch.command_line import parse, read_run, split
from convoy.launch.targets.kubernetes import documents, manifest
from convoy.launch.targets.options import job_options

USAGE = """usage: convoy launch render --name=NAME --image=REF [--flag=value ...] -- [flags of `convoy train`]

Prints the documents of a job for Kubernetes, and nothing else: ... | kubectl apply -f -"""


def render(argv: list[str]) -> int:
    """The verb."""
    own, train = split(argv)
    if options.wants_help(own):
        print(options.help_text(USAGE, job_options()))
        return exits.OK
    # The digest in the documents is that of the job that `submit --target=k8s` would begin.
    given = job_options()(**parse(["--target=k8s", *own], job_options()))
    if given.target != "k8s":
        raise exits.CannotRun(
            f"--target={given.target} has no documents; `convoy launch submit --dry_run` shows what it has."
        )
    print(documents.to_yaml(manifest.render(build(given, read_run(train)))), end="")
    return exits.OK
