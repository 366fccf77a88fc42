"""`convoy launch doctor --target=slurm`: whether a cluster has what jobs need. Runs a command on two nodes."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

from convoy import exits
from convoy.launch.doctor import DoctorOptions
from convoy.launch.flags import TargetOptions
from convoy.launch.targets.base import Check, count_jobs
from convoy.launch.targets.local import job_folder
from convoy.launch.targets.slurm import api, probe, script
from convoy.launch.targets.slurm.folder import SlurmFolder
from convoy.launch.targets.slurm.options import SlurmDoctorOptions
from convoy.launch.targets.slurm.target import SlurmTarget
from convoy.outside import printable

NODES = 2  # that look at folders
_TEST = "#!/bin/bash\n"  # of a job that is not submitted


def checks(options: TargetOptions) -> Iterator[Check]:
    """What to check, in order; those of the nodes share one command there."""
    given = options.narrowed(SlurmDoctorOptions)
    run_dir = options.narrowed(DoctorOptions).run_dir
    records = job_folder.home(SlurmFolder.kind)
    places = [records] + [Path(run_dir).expanduser().absolute()] * bool(run_dir and "://" not in run_dir)

    @functools.cache
    def look() -> list[probe.Node]:
        count = min(NODES, sum(int(own.get("TotalNodes", "0")) for own in _partitions(given.partition).values()))
        return probe.look(count, asked(given), places, given.python)

    yield Check("Slurm", _programs, essential=True)
    yield Check("controller", _controller, essential=True)
    yield Check("partition", lambda: _partition(given.partition), essential=True)
    yield Check("a job", lambda: _job(given))
    yield Check("jobs", lambda: count_jobs(SlurmTarget()))
    yield Check("nodes", lambda: _nodes(look()), essential=True)
    yield Check("records of jobs", lambda: _records(look(), records))
    if len(places) > 1:
        yield Check("run directory on nodes", lambda: probe.shared(look(), places[1], "--run_dir"))


def asked(given: SlurmDoctorOptions) -> list[str]:
    """The flags as Slurm's commands take them."""
    pairs = (("partition", given.partition), ("account", given.account), ("qos", given.qos))
    return [f"--{name}={value}" for name, value in pairs if value]


def _programs() -> str:
    missing = [program for program in api.PROGRAMS if not shutil.which(program)]
    if missing:
        raise exits.CannotRun(
            f"there is no {' and no '.join(missing)} here; run this on a login node of the cluster, where Slurm's commands are."
        )
    return "its commands are installed"


def _controller() -> str:
    values = api.configuration()
    own = [
        name for name in ("RequeueExit", "RequeueExitHold") if "42" in values.get(name, "").replace("-", ",").split(",")
    ]
    if own:
        raise exits.CannotRun(
            f"{own[0]}={values[own[0]]} in slurm.conf queues every job again that ends with 42, a cancelled one too; ask for"
            " another code there."
        )
    shown = [values.get(name, "?") for name in ("ClusterName", "SLURM_VERSION", "AuthType", "KillWait")]
    name, version, auth, wait = (printable(text[:60]) for text in shown)
    return f"cluster {name}, Slurm {version}, {auth}; a run has {wait} to save when it is cancelled"


def _partitions(names: str) -> dict[str, dict[str, str]]:
    """The fields of the partitions that --partition names, or of the default one."""
    lines = api.run("scontrol", "--oneliner", "show", "partition").splitlines()
    partitions = {fields["PartitionName"]: fields for fields in map(api.parse, lines) if "PartitionName" in fields}
    known = printable((", ".join(sorted(partitions)) or "none")[:500])
    wanted = names.split(",") if names else [name for name, own in partitions.items() if own.get("Default") == "YES"]
    if not wanted:
        raise exits.CannotRun(f"the cluster has no default partition; give --partition, of {known}.")
    for name in wanted:
        if name not in partitions:
            raise exits.CannotRun(f"there is no partition {name}; those you see are {known}.")
        if not partitions[name].get("TotalNodes", "").isdecimal():
            raise exits.BadData(
                f"`scontrol show partition` says no TotalNodes of {name}; something else than Slurm answers."
            )
    return {name: partitions[name] for name in wanted}


def _partition(names: str) -> str:
    lines = []
    for name, own in _partitions(names).items():
        if (state := own.get("State")) != "UP":
            raise exits.CannotRun(
                f"partition {name} is {printable(str(state)[:20])}; ask when it comes back, or give another."
            )
        longest = printable(own.get("MaxTime", "?")[:20])
        lines.append(f"{name}, {own['TotalNodes'][:9]} nodes, jobs of at most {longest}")
    return "; ".join(lines)


def _job(given: SlurmDoctorOptions) -> str:
    lines = "".join(f"#SBATCH {flag}\n" for flag in asked(given))
    api.check(f"{_TEST}{lines}#SBATCH --nodes=1 --ntasks-per-node=1 --time=1 --requeue\n", given.partition)
    return "a job of one node would be accepted (sbatch --test-only)"


def _nodes(seen: list[probe.Node]) -> str:
    for node in seen:
        if node.python != "convoy":
            raise exits.CannotRun(
                f"the Python of {node.name} has no Convoy ({node.python}); install Convoy where all nodes see it, and give"
                " --python."
            )
    return f"{probe.listed(seen)} started a command and found Convoy"


def _records(seen: list[probe.Node], place: Path) -> str:
    script.check_path(place)
    return probe.shared(seen, place, "XDG_STATE_HOME")
