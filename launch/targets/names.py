"""The launch targets by name. Adding one takes a folder beside this file and a row here."""

from __future__ import annotations

from convoy import exits
from convoy.launch.flags import TargetOptions
from convoy.launch.targets.base import Platform, Target
from convoy.table import Entry, Table

TARGETS = Table(
    "target",
    {
        "local": Entry("convoy.launch.targets.local.platform:Local", "a rehearsal of the job on this machine"),
        "k8s": Entry("convoy.launch.targets.kubernetes.platform:Kubernetes", "a Kubernetes cluster"),
        "slurm": Entry("convoy.launch.targets.slurm.platform:Slurm", "a cluster under Slurm"),
        "tpu-vm": Entry("convoy.launch.targets.tpu_vm.platform:TpuVm", "Cloud TPU VMs"),
    },
)


def platform(name: str) -> Platform:
    """The platform of a row."""
    if name not in TARGETS:
        raise exits.CannotRun(f"--target={name} is not known; {TARGETS.near(name)}")
    kind: type[Platform] = TARGETS.load(name)
    return kind()


def open_target(options: TargetOptions, chaos: str = "") -> Target:
    """The place that --target names; `chaos` are faults that only a rehearsal has."""
    chosen = platform(options.target)
    if chaos and not chosen.rehearses:
        raise exits.CannotRun(f"--chaos={chaos} is for rehearsals; give --target=local with it.")
    return chosen.open(options, chaos)
