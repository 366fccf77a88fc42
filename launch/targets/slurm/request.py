"""What a job, or an array of jobs, asks of sbatch. A pure function of the jobs; every value is a checked name or a number."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence

from convoy.accelerators import Accelerator
from convoy.launch.flags import JobOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.kubernetes.options import KubernetesOptions
from convoy.launch.targets.slurm.options import SlurmOptions

COMMENT = "convoy"


def options(specs: Sequence[JobSpec], at_once: int = 0) -> list[str]:
    """What the job, or the array of jobs, asks of sbatch, each option without its dashes."""
    spec = specs[0]
    given, own = spec.options, own_options(spec)
    memory = given.narrowed(KubernetesOptions).memory
    asked = {
        "job-name": _shared_name(specs),
        "comment": comment(specs),
        "array": f"0-{len(specs) - 1}%{at_once}" if at_once else "",
        "nodes": str(spec.workers),
        "ntasks-per-node": "1",
        "time": str(minutes(given.hours)),
        "signal": f"TERM@{own.save_before}",
        "partition": own.partition,
        "account": own.account,
        "qos": own.qos,
        "reservation": given.reservation,
        "gres": gres(spec),
        "cpus-per-task": str(cpus(spec) or ""),
        "mem": memory.replace("Gi", "G").replace("Mi", "M"),
        "export": own.env or "NONE",
        "open-mode": "append",
        "output": "/dev/null",
        "requeue" if given.max_restarts else "no-requeue": None,
    }
    return [name if value is None else f"{name}={value}" for name, value in asked.items() if value != ""]


def _shared_name(specs: Sequence[JobSpec]) -> str:
    """What the names of the jobs begin with."""
    return os.path.commonprefix([spec.name for spec in specs]).rstrip("-") or specs[0].name  # noqa: RUF071 - no paths


def comment(specs: Sequence[JobSpec]) -> str:
    """What marks a job of Slurm as this submission's, for an answer that was lost."""
    digests = "".join(f"{spec.name} {spec.digest}\n" for spec in specs)
    return f"{COMMENT}:{hashlib.sha256(digests.encode()).hexdigest()[:16]}"


def asked_in(text: str, option: str) -> str:
    """The value of an option in a script of ours."""
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith(f"#SBATCH --{option}="))


def minutes(hours: float) -> int:
    """--hours as the time limit, which Slurm counts in whole minutes."""
    return max(1, math.ceil(round(hours * 60, 6)))


def gres(spec: JobSpec) -> str:
    """The GPUs of a worker, as --gres; empty for none."""
    own = own_options(spec)
    return own.gres or (f"gpu:{spec.accelerator.chips}" if spec.accelerator.kind == "gpu" else "")


def gpus(options: JobOptions, accelerator: Accelerator) -> int:
    """How many GPUs a worker gets."""
    return options.narrowed(SlurmOptions).gpus or (accelerator.chips if accelerator.kind == "gpu" else 0)


def cpus(spec: JobSpec) -> int:
    """--cpus, rounded up; 0: what the partition gives."""
    return math.ceil(spec.options.narrowed(KubernetesOptions).cpus)


def own_options(spec: JobSpec) -> SlurmOptions:
    return spec.options.narrowed(SlurmOptions)
