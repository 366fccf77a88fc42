"""Slurm as a launch target: its flags, its rules, how it is opened and checked."""

from __future__ import annotations

from collections.abc import Iterator

from convoy import exits
from convoy.accelerators import Accelerator
from convoy.launch.flags import JobOptions, TargetOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import Check, Platform, Target
from convoy.launch.targets.slurm import request
from convoy.launch.targets.slurm.options import SlurmDoctorOptions, SlurmOptions, check_names


class Slurm(Platform):
    """See Platform. Nothing is asked of Slurm before a job is submitted."""

    job_options = SlurmOptions
    doctor_options = SlurmDoctorOptions

    def check(self, spec: JobSpec) -> None:
        given, own = spec.options, spec.options.narrowed(SlurmOptions)
        if spec.accelerator.kind == "tpu":
            raise exits.CannotRun(
                f"--accelerator={given.accelerator}: TPUs stand behind --target=k8s and --target=tpu-vm; give GPUs or cpu here."
            )
        for flag, value, remedy in (
            ("image", given.image, "give --apptainer=/PATH.sif, which `apptainer build FILE.sif docker://REF` makes"),
            ("spot", given.spot, "give the --partition, or --qos, whose jobs may be preempted"),
            ("service_account", given.service_account, "give --account, which the job is charged to"),
        ):
            if value:
                raise exits.CannotRun(f"--{flag} means nothing to Slurm; {remedy}.")
        if spec.accelerator.kind == "gpu" and own.gpus not in (0, spec.accelerator.chips):
            raise exits.CannotRun(
                f"--gres={own.gres} and --accelerator={given.accelerator} do not agree: give the same number of GPUs."
            )
        seconds = 60 * request.minutes(given.hours)
        if own.save_before >= seconds:
            raise exits.CannotRun(
                f"--save_before={own.save_before} is not possible: --hours={given.hours:g} is {seconds} s; give fewer seconds,"
                " or more hours."
            )
        check_names(reservation=given.reservation)

    def warnings(self, options: JobOptions) -> Iterator[str]:
        own = options.narrowed(SlurmOptions)
        if options.accelerator != "cpu" and not own.gres:
            yield (
                f"--accelerator={options.accelerator} asks for any GPUs of the partition; --gres=gpu:TYPE:COUNT asks for a"
                " type, by the cluster's own name of it."
            )

    def gpus(self, options: JobOptions, accelerator: Accelerator) -> int:
        return request.gpus(options, accelerator)

    def open(self, options: TargetOptions, chaos: str = "") -> Target:
        from convoy.launch.targets.slurm.target import SlurmTarget

        return SlurmTarget()

    def render(self, spec: JobSpec) -> str:
        from convoy.launch.targets.slurm import target

        return target.render([spec])

    def doctor(self, options: TargetOptions) -> Iterator[Check]:
        from convoy.launch.targets.slurm import doctor

        yield from doctor.checks(options)
