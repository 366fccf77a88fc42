"""A limit on the processor time of a process, by Linux' cgroups of either version. Only root sets one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from convoy import exits

PERIOD_US = 10_000  # short, so that a process that has used its share up soon goes on: peers wait for it
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
        (self._folder / "cgroup.procs").write_text(str(pid))

    def limit(self, cores: float) -> None:
        """So many cores at most, in each period."""
        quota = round(cores * PERIOD_US)
        if self._version == 2:
            (self._folder / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        else:
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota))

    def remove(self) -> None:
        """After the end of its process."""
        self._folder.rmdir()


@contextlib.contextmanager
def quota(name: str) -> Iterator[Quota]:
    """A limit that is gone afterwards; what is in it has to end before."""
    own = Quota(name)
    try:
        yield own
    finally:
        own.remove()
