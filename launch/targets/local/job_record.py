"""The documents of a job's folder, checked: a stranger may have written them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from convoy import shapes
from convoy.bounds import whole
from convoy.launch.flags import MAX_WORKERS
from convoy.launch.targets.base import REPORT

_PROCESS = whole(0, 1 << 22)  # Linux's own bound
_STATE = {**REPORT, "supervisor": _PROCESS, "workers": [_PROCESS]}
# What was submitted, on any target that keeps it in a folder.
SUBMITTED = {"spec": {"options": {"workers": whole(1, MAX_WORKERS)}}, "digest": str, "run_dir": str}
_JOB = {**SUBMITTED, "chaos": str, "id": str}


@dataclasses.dataclass
class Record:
    """state.json: the fields of convoy.launch.targets.base.JobState, and the job's processes."""

    phase: str
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    begun: float = 0.0
    supervisor: int = 0  # process ids, for a person to look at
    workers: list[int] = dataclasses.field(default_factory=list)


def read_record(values: Mapping[str, Any]) -> Record:
    """The content of state.json; raises exits.BadData, a sentence."""
    shapes.check(values, _STATE, "it")
    return Record(**{key: values[key] for key in _STATE})


def check_job(values: Mapping[str, Any]) -> None:
    """Raises exits.BadData for what cannot be the content of job.json (convoy.launch.targets.local.target.submission)."""
    shapes.check(values, _JOB, "it")
