"""What a step costs where freed memory goes back to the kernel, as glibc has it, and where the process keeps it
(trainer/engines/allocator.py).

    python benchmarks/allocator.py

The two sides take turns, round by round, in processes that start anew, one core each. Two processes of a setting are hosts of
their own (tests/hosts.py), which needs root. Writes results/allocator.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cluster import Team
from rows import HERE, describe, write

from convoy import entry, exits

sys.path.append(str(HERE.parent / "tests"))
from hosts import Host, network, refused

SIDES = {
    "gives_back": {"MALLOC_ARENA_TEST": "8"},
    "keeps": {},
}  # any setting of the person's own makes Convoy keep out; 8 is glibc's
_FAULTS, _SYSTEM = 9, 14  # fields of /proc/PID/stat, counted from 0: minor page faults, time in the kernel


class Setting(NamedTuple):
    """What is measured."""

    backend: str
    model: str
    batch_size: int
    processes: int


SETTINGS = (
    Setting("tensorflow", "article_cnn", 128, 1),
    Setting("tensorflow", "article_cnn", 128, 2),
    Setting("jax", "article_cnn", 128, 1),
    Setting("jax", "article_cnn", 128, 2),
    Setting("tensorflow", "resnet18", 64, 1),
    Setting("jax", "resnet18", 64, 1),
)


class Measurement(NamedTuple):
    """Of the first process, for a step."""

    step_ms: float
    kernel_ms: float
    page_faults: float
    peak_mib: float  # of the process, since it began


@contextlib.contextmanager
def team(setting: Setting, side: str, hosts: Sequence[Host]) -> Iterator[Team]:
    """The processes of a setting, ready."""
    own = Team(setting.backend, sys.executable, hosts, setting.batch_size, SIDES[side], setting.model)
    try:
        own.wait()
        yield own
    finally:
        own.end()


def measure(own: Team, seconds: float) -> Measurement:
    pid = own.processes[0].pid
    count = max(2, round(seconds / own.steps(1)))
    before = _used(pid)
    step = own.steps(count) / count
    faults, ticks = (after - earlier for after, earlier in zip(_used(pid), before, strict=True))
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return Measurement(1000 * step, 10 * ticks / count, faults / count, peak / 1024)  # a tick is 10 ms


def _used(pid: int) -> tuple[int, int]:
    """Page faults and ticks in the kernel, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_FAULTS - 2]), int(fields[_SYSTEM - 2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "allocator.csv")
    flags = parser.parse_args()
    if why := refused():
        raise exits.CannotRun(f"no hosts can be made on this machine: {why}.")
    measured: dict[tuple[Setting, str], list[Measurement]] = {}
    with network(2) as (hosts, _):
        for _, setting, side in itertools.product(range(flags.rounds), SETTINGS, SIDES):
            with team(setting, side, hosts[: setting.processes]) as own:
                measurement = measure(own, flags.seconds)
            measured.setdefault((setting, side), []).append(measurement)
            print(*setting, side, *(round(number, 1) for number in measurement), flush=True)
    write(flags.output, [row(setting, flags.rounds, measured) for setting in SETTINGS])
    return exits.OK


def row(setting: Setting, rounds: int, measured: dict[tuple[Setting, str], list[Measurement]]) -> dict[str, object]:
    medians = {side: Measurement(*map(statistics.median, zip(*measured[setting, side], strict=True))) for side in SIDES}
    figures = {
        f"{name}_{side}": round(getattr(medians[side], name), 1) for name in Measurement._fields for side in SIDES
    }
    spread = {
        f"{end.__name__}_{side}": round(end(one.step_ms for one in measured[setting, side]), 1)
        for side in SIDES
        for end in (min, max)
    }
    times = medians["gives_back"].step_ms / medians["keeps"].step_ms
    return {**describe(), **setting._asdict(), "rounds": rounds, **figures, **spread, "times": round(times, 3)}


if __name__ == "__main__":
    entry.call(main)
