"""Command lines of jobs: flags of the job, `--`, flags of `convoy train`.

convoy launch submit --target=k8s --accelerator=l4x4 --workers=4 --name=rn50 ... -- --dataset=cifar10 --run_dir=gs://b/r
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Set
from typing import Any

from convoy import exits, options
from convoy.launch.build import build
from convoy.launch.flags import MAX_NAME_CHARACTERS, JobOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.names import platform
from convoy.launch.targets.options import job_options
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig


def from_argv(argv: list[str]) -> JobSpec:
    """A command line -> the job.

    Raises:
      exits.UsageError: a flag that does not parse.
      exits.CannotRun: an impossible value.
    """
    own, train = split(argv)
    return build(*job_and_run(parse(own, job_options()), train))


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """(flags of the job, flags of `convoy train`)."""
    separator = argv.index("--") if "--" in argv else len(argv)
    return argv[:separator], argv[separator + 1 :]


def parse(own: list[str], *classes: type) -> dict[str, Any]:
    """As options.parse, for the flags before --; UsageError for a flag of `convoy train` says where it belongs."""
    names = {field.name for field in options.fields(*classes)}
    if flag := _first(own, RunConfig().to_dict().keys() - names):
        raise exits.UsageError(f"--{flag} is a flag of `convoy train`; give it after --, as in: -- --{flag}=...")
    return options.parse(own, *classes)


def job_and_run(parsed: Mapping[str, Any], train: list[str]) -> tuple[JobOptions, RunConfig]:
    """Parsed flags of a job, flags of `convoy train` -> the job's options and its run.

    A rehearsal needs neither name nor run directory: a run gets a directory as from `convoy train`, and a job its name.
    """
    run = read_run(train)
    values = options.take(job_options(), parsed)
    if platform(values["target"]).rehearses:
        run = dataclasses.replace(run, run_dir=run.with_defaults().run_dir)
        values["name"] = values["name"] or _job_name(run.run_dir)
    return job_options()(**values), run


def read_run(train: list[str]) -> RunConfig:
    """The run, from the flags after --; UsageError for a flag of the job says where it belongs."""
    names = {field.name for field in options.fields(job_options())}
    if flag := _first(train, names - RunConfig().to_dict().keys()):
        raise exits.UsageError(f"--{flag} is a flag of the job, none of `convoy train`; give it before --.")
    return configuration.from_argv(train)


def _job_name(run_dir: str) -> str:
    """A name for a job, from the last part of its run directory."""
    words = re.findall(r"[a-z0-9]+", run_dir.rstrip("/").rpartition("/")[2].lower())
    if not words or words[0][0].isdigit():
        words.insert(0, "run")
    return "-".join(words)[:MAX_NAME_CHARACTERS].rstrip("-")


def _first(argv: list[str], names: Set[str]) -> str:
    """The first flag in `argv` that has one of these names; empty for none."""
    flags = (word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-"))
    return next((flag for flag in flags if flag in names), "")
