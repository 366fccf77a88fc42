"""Sides of a comparison: each in processes of its own, which wait for their turn and share no moment with another side.

A script lists its sides and calls `main`. Started with --side, it is one process of that side. It prints "ready"; for each
line of input, a number of seconds, it makes images for that long and prints their rate. A side whose library holds Python's
lock runs in as many processes as there are cores. Their speeds are added up; sending images to a trainer is not counted.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import psutil
from rows import describe, write

WARM_SECONDS = 1.0  # of each turn, not counted: what was made ahead while others had theirs is used up


class Side(NamedTuple):
    """One way to make the images.

    `start(data)` returns a function that makes some images and returns how many; `data` is what the script prepared.
    """

    start: Callable[[str], Callable[[], int]]
    package: str  # whose version the row has
    alone: bool  # one process takes all cores
    notes: str  # interpolation, edges, type: what is not as on the other sides


def main(sides: dict[str, Side], prepare: Callable[[Path], str], results: Path, description: str) -> None:
    """Measures every side in turn, round by round, and writes a row for each."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--side", choices=sides, help="be one process of this side")
    parser.add_argument("--data", default="")
    parser.add_argument("--only", nargs="+", choices=sides, default=list(sides))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--output", type=Path, default=results)
    flags = parser.parse_args()
    if flags.side:
        serve(sides[flags.side].start(flags.data))
        return
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        data = prepare(Path(folder))
        teams: dict[str, Team] = {}
        for name in flags.only:
            add(teams, name, _team(name, sides[name], data))
        speeds: dict[str, list[float]] = {name: [] for name in teams}
        for round_ in range(flags.rounds):
            for name, team in teams.items():
                speeds[name].append(team.turn(flags.seconds))
            line = "  ".join(f"{name} {speeds[name][-1]:,.0f}" for name in teams)
            print(f"round {round_ + 1}: {line}", flush=True)
        rows = [
            {
                **describe(),
                "side": name,
                "package": sides[name].package,
                "version": importlib.metadata.version(sides[name].package),
                "processes": len(teams[name].workers),
                "rounds": flags.rounds,
                "images_per_second": round(statistics.median(speeds[name])),
                "least": round(min(speeds[name])),
                "most": round(max(speeds[name])),
                "rss_mib": round(teams[name].rss() / 2**20),
                "notes": sides[name].notes,
            }
            for name in teams
        ]
        for team in teams.values():
            team.end()
    write(flags.output, rows)


def serve(make: Callable[[], int]) -> None:
    """Is a process of a side."""
    make()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, count = float(line), 0
        _for(WARM_SECONDS, make)
        begun = time.perf_counter()
        count = _for(seconds, make)
        print(count / (time.perf_counter() - begun), flush=True)


def add(teams: dict[str, Team], name: str, team: Team) -> None:
    """Takes a side in, if it could be started."""
    if team.ready:
        teams[name] = team
    else:
        print(f"{name} could not be started and is left out", flush=True)


def _for(seconds: float, make: Callable[[], int]) -> int:
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        count += make()
    return count


def _team(name: str, side: Side, data: str) -> Team:
    command = [sys.executable, sys.argv[0], f"--side={name}", f"--data={data}"]
    if side.alone:
        return Team(command)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return Team(command, len(os.sched_getaffinity(0)), threads)


class Team:
    """The processes of a side, each started by `command` to call `serve`; none is left if they do not get `ready`."""

    def __init__(self, command: Sequence[str], processes: int = 1, environment: Mapping[str, str] | None = None):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **(environment or {})}
        self.workers = [
            subprocess.Popen(command, stdin=PIPE, stdout=PIPE, env=environment, text=True, start_new_session=True)
            for _ in range(processes)
        ]
        self.ready = all(self._line(worker) == "ready" for worker in self.workers)
        if self.ready:
            self._signal(signal.SIGSTOP)
        else:
            self.end()

    def turn(self, seconds: float) -> float:
        """Images a second of all processes together."""
        self._signal(signal.SIGCONT)
        for worker in self.workers:
            worker.stdin.write(f"{seconds}\n")
            worker.stdin.flush()
        speed = sum(float(self._line(worker)) for worker in self.workers)
        self._signal(signal.SIGSTOP)  # work ahead would take the next side's time
        return speed

    def rss(self) -> int:
        """Bytes that all processes of the side hold, children too."""
        parents = [psutil.Process(worker.pid) for worker in self.workers]
        return sum(
            process.memory_info().rss for parent in parents for process in (parent, *parent.children(recursive=True))
        )

    def end(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """To all processes of the side, those that a library started too."""
        for worker in self.workers:
            os.killpg(worker.pid, number)

    @staticmethod
    def _line(worker: subprocess.Popen[str]) -> str:
        """The worker's next word; libraries print lines of their own before it is ready."""
        for line in worker.stdout:
            if line.strip() == "ready" or line[:1].isdigit():
                return line.strip()
        return ""
