"""Jobs on this machine, and how they are looked at."""

from __future__ import annotations

import time
from pathlib import Path

from convoy.launch.command_line import from_argv
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import JobState
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.target import LocalTarget


def job(*argv: str, workers: int = 2, name: str = "try", run: tuple[str, ...] = ()) -> JobSpec:
    return from_argv([f"--name={name}", f"--workers={workers}", *argv, "--", "--run_dir=run", *run])


def words(folder: JobFolder, worker: int, attempt: int = 0) -> str:
    """What a worker has said."""
    log = folder.log(worker, attempt)
    return log.read_text() if log.exists() else ""


def until(name: str, what) -> JobState:
    """The state of a job once `what`, of it and its folder, is true."""
    deadline = time.monotonic() + 300
    while not what(state := LocalTarget().state(name), JobFolder(name)):
        assert time.monotonic() < deadline, state
        time.sleep(0.02)
    return state


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False
