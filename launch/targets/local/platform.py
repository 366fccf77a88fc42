"""This machine as a launch target: jobs are rehearsed on it."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator

from convoy import exits
from convoy.launch.flags import TargetOptions
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import Check, Platform, Target, count_jobs
from convoy.launch.targets.kubernetes.platform import check_gang


class Local(Platform):
    """See Platform. A rehearsal takes the flags of the cluster that it rehearses."""

    rehearses = True

    def check(self, spec: JobSpec) -> None:
        check_gang(spec)

    def open(self, options: TargetOptions, chaos: str = "") -> Target:
        from convoy.launch.targets.local.target import LocalTarget

        return LocalTarget(chaos)

    def doctor(self, options: TargetOptions) -> Iterator[Check]:
        yield Check("Python", platform.python_version)
        yield Check("engine", _engine)
        yield Check("jobs", lambda: count_jobs(self.open(options)))


def _engine() -> str:
    installed = [name for name in ("tensorflow", "jax") if importlib.util.find_spec(name)]
    if not installed:
        raise exits.CannotRun("neither TensorFlow nor JAX is installed; run `pip install keras-convoy`.")
    return " and ".join(installed)
