"""A cluster of real Slurm, and workers that do what a test asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import slurm_cluster
from convoy.launch.command_line import from_argv
from convoy.launch.job import JobSpec
from convoy.launch.targets.slurm.target import SlurmTarget
from slurm_cluster import Cluster

# In place of the nodes' Python: runs the plan beside the run directory in place of a worker, with bash.
_STUB = """#!/bin/bash
for word; do case $word in --run_dir=*) run_dir=${word#*=} ;; esac; done
rank=$SLURM_PROCID attempt=${SLURM_RESTART_COUNT:-0} index=$SLURM_ARRAY_TASK_ID
. "$run_dir.plan"
"""


@pytest.fixture(scope="session")
def running() -> Iterator[Cluster]:
    """Two nodes for all tests of this process."""
    if clause := slurm_cluster.missing():
        pytest.skip(clause)
    with slurm_cluster.cluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(running, tmp_path, monkeypatch) -> Iterator[Cluster]:
    """The cluster, with nothing in its queue, as this process and its children find it."""
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(SlurmTarget, "poll_seconds", 0.2)
    monkeypatch.chdir(tmp_path)
    yield running
    running.run("scancel", "--me", check=False)
    running.until(lambda: not running.run("squeue", "-h").strip())


@pytest.fixture
def target() -> SlurmTarget:
    return SlurmTarget()


@pytest.fixture
def planned(tmp_path) -> Callable[..., JobSpec]:
    """planned("exit 42", "--workers=2") -> a job whose workers do that, in bash: `rank`, `attempt` and `run_dir` are set."""
    stub = tmp_path / "stub"
    stub.write_text(_STUB)
    stub.chmod(0o755)

    def make(plan: str, *flags: str, name: str = "job", run: tuple[str, ...] = ()) -> JobSpec:
        (tmp_path / f"{name}.plan").write_text(plan)
        argv = ["--target=slurm", f"--name={name}", f"--python={stub}", "--hours=0.1", *flags]
        return from_argv([*argv, "--", f"--run_dir={tmp_path / name}", *run])

    return make


@pytest.fixture
def trained(tmp_path) -> Callable[..., JobSpec]:
    """trained("--workers=2", run=[...]) -> a job that trains for real, by this checkout."""

    def make(*flags: str, name: str = "job", run: list[str]) -> JobSpec:
        argv = ["--target=slurm", f"--name={name}", *flags]
        return from_argv([*argv, "--", f"--run_dir={tmp_path / name}", *run])

    return make
