"""A limit on the processor time of a process, by Linux' cgroups of either version. Only root sets one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from convoy import exits

PERIOD_US = 10_000  # short, so that a process that has used its share up soon goes on: peers wait for it
_FIRST_V2, _FIRST_V1 = 10_000, 262_144  # the largest weights: ahead of all other processes
_V2, _V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")


def version() -> int:
    """Of the cgroups that have the controller `cpu` here; CannotRun where there are none."""
    with contextlib.suppress(OSError):
        if "cpu" in (_V2 / "cgroup.controllers").read_text().split():
            return 2
    if (_V1 / "cpu.cfs_quota_us").exists():
        return 1
    raise exits.CannotRun(
        "no cgroup with the controller cpu is mounted here, so one process alone would get more of the processor than one of"
        " four; mount cgroup2 at /sys/fs/cgroup."
    )


class Quota:
    """The limit of one process and its threads; none until `limit`."""

    def __init__(self, name: str) -> None:
        self._version = version()
        if self._version == 2:
            (_V2 / "cgroup.subtree_control").write_text("+cpu")
        self._folder = (_V2 if self._version == 2 else _V1) / f"convoy-{os.getpid()}-{name}"
        self._folder.mkdir()

    def add(self, pid: int) -> None:
        self._write("cgroup.procs", pid)

    def limit(self, cores: float) -> None:
        """So many cores in each period: no more, and no fewer because of what else this machine does."""
        quota = round(cores * PERIOD_US)
        if self._version == 2:
            self._write("cpu.weight", _FIRST_V2)
            self._write("cpu.max", f"{quota} {PERIOD_US}")
        else:
            self._write("cpu.shares", _FIRST_V1)
            self._write("cpu.cfs_period_us", PERIOD_US)
            self._write("cpu.cfs_quota_us", quota)

    def remove(self) -> None:
        """After the end of its process."""
        self._folder.rmdir()

    def _write(self, name: str, value: object) -> None:
        (self._folder / name).write_text(str(value))


@contextlib.contextmanager
def quota(name: str) -> Iterator[Quota]:
    """A limit that is gone afterwards; what is in it has to end before."""
    own = Quota(name)
    try:
        yield own
    finally:
        own.remove()
