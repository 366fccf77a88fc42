"""Jobs under Slurm, and how they are looked at."""

from __future__ import annotations

import csv
import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

from convoy.launch.targets.base import ENDS, JobState
from convoy.launch.targets.slurm.folder import SlurmFolder
from convoy.launch.targets.slurm.target import SlurmTarget
from support import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results" / "slurm.csv"


def until(
    target: SlurmTarget, name: str, what: Callable[[JobState], object] | str = "", seconds: float = 240
) -> JobState:
    """The state of a job once it has this phase, or `what` is true of it, or without one once it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        state = target.state(name)
        if state.phase in ENDS if not what else state.phase == what if isinstance(what, str) else what(state):
            return state
        assert time.monotonic() < deadline, state
        assert what == "" or callable(what) or state.phase not in ENDS, state
        time.sleep(0.1)


def number(name: str) -> str:
    """Slurm's number of a job."""
    return SlurmFolder(name).read().number


def log(name: str, worker: int = 0, attempt: int = 0) -> str:
    """What a worker has printed, without what Slurm says there of a step that it ends."""
    place: Path = SlurmFolder(name).log(worker, attempt)
    lines = place.read_text().splitlines(keepends=True) if place.exists() else []
    return "".join(line for line in lines if not line.startswith("slurmstepd"))


def record(version: str, test: str, begun: float, backend: str, nodes: int, restarts: int, end: str) -> None:
    """Adds a row to the results, if CONVOY_SLURM_RECORD asks for them; `begun` by time.monotonic."""
    if not os.environ.get("CONVOY_SLURM_RECORD"):
        return
    row = {
        "date": datetime.date.today(), "slurm": version, "test": test, "backend": backend, "nodes": nodes, "restarts": restarts,
        "seconds": round(time.monotonic() - begun), "end": end,
    }  # fmt: skip
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
