"""Options and a run's configuration -> a job whose parts agree, by the rules of every job and of its target."""

from __future__ import annotations

import dataclasses
from typing import Any

from convoy import accelerators, exits
from convoy.accelerators import Accelerator
from convoy.launch.flags import JobOptions, check_visible
from convoy.launch.job import JobSpec
from convoy.launch.targets.names import platform
from convoy.launch.targets.options import job_options
from convoy.trainer import config as configuration
from convoy.trainer.config import RunConfig

# TPUs on which TensorFlow crashed, and TPUs newer than its last version for TPUs.
_JAX_ONLY = ("v6e", "v7x")


def build(given: JobOptions, run: RunConfig) -> JobSpec:
    """Options and run -> a job; CannotRun where they do not agree."""
    check_visible(run.to_dict())
    accelerator, workers = machines(given)
    if not run.run_dir:
        raise exits.CannotRun("--run_dir is missing after --: a job that is started again has to find its run.")
    spec = JobSpec(dataclasses.replace(given, workers=workers), accelerator, run)
    platform(given.target).check(spec)
    if accelerator.kind == "tpu" and run.backend == "tensorflow":
        _refuse_tensorflow(given, accelerator)
    for size in run.batch_sizes:
        if size % workers:
            batch = (
                f"--batch_size={size} is the"
                if size == run.batch_size
                else f"--batch_ramp={run.batch_ramp}: {size} is a"
            )
            raise exits.CannotRun(
                f"{batch} batch of all {workers} workers together and cannot be divided among them evenly."
            )
    return spec


def from_dict(values: dict[str, Any]) -> JobSpec:
    """The inverse of JobSpec.to_dict."""
    return build(job_options()(**values["options"]), configuration.from_dict(values["run"]))


def machines(given: JobOptions) -> tuple[Accelerator, int]:
    """(the accelerator of each worker, or the slice that all of them share; the number of workers)."""
    accelerator = accelerators.resolve(given.accelerator, given.topology)
    if accelerator.kind != "tpu":
        return accelerator, given.workers or 1
    if given.workers not in (0, accelerator.hosts):
        raise exits.CannotRun(
            f"--workers={given.workers}, but {given.accelerator} has {accelerator.hosts} machines; leave --workers out."
        )
    return accelerator, accelerator.hosts


def _refuse_tensorflow(given: JobOptions, accelerator: Accelerator) -> None:
    """CannotRun for the slices of TPUs that TensorFlow cannot drive; it gets no new versions there."""
    chip = accelerator.chip
    assert chip is not None
    if accelerator.hosts > 1:
        raise exits.CannotRun(
            f"TensorFlow drives the TPUs of one machine, and {given.accelerator} has {accelerator.hosts}; give --backend=jax"
            " after --, which trains the same models, or a smaller slice."
        )
    if chip.name in _JAX_ONLY:
        raise exits.CannotRun(
            f"TensorFlow does not run on TPUs as new as {chip.name}; give --backend=jax after --, which trains the same models."
        )
