"""What the documents of a job's folder say, checked: a stranger may have written them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from convoy.outside import printable
from launch.targets import PHASES
from launch.where import MOST_WORKERS

_MOST_RESTARTS = 1 << 31
_MOST_PROCESS = 1 << 22  # Linux's own bound
_LAST_MOMENT = 2e11  # seconds since 1970 that a calendar can show
_JOB = {"spec": dict, "digest": str, "run_dir": str, "chaos": str, "id": str}


@dataclasses.dataclass
class Record:
    """state.json: launch.targets.JobState, and which processes there are."""

    phase: str
    reason: str = ""
    restarts: int = 0
    exit_code: int | None = None
    begun: float = 0.0
    supervisor: int = 0  # process ids, for a person to look at
    workers: list[int] = dataclasses.field(default_factory=list)


def read_record(values: Mapping[str, Any]) -> Record:
    """The content of state.json; ValueError says what is wrong with it."""
    if more := values.keys() - {field.name for field in dataclasses.fields(Record)}:
        raise ValueError(f"{printable(min(more)[:40])!r} is of another version of Convoy")
    if "phase" not in values:
        raise ValueError("its phase is missing")
    record = Record(**values)
    processes = [record.supervisor, *(record.workers if isinstance(record.workers, list) else [None])]
    right = {
        "phase": isinstance(record.phase, str) and record.phase in PHASES,
        "reason": isinstance(record.reason, str),
        "restarts": _is_count(record.restarts, _MOST_RESTARTS),
        "exit_code": record.exit_code is None or _is_count(record.exit_code, 255),
        "begun": type(record.begun) in (int, float) and 0 <= record.begun < _LAST_MOMENT,
        "supervisor or workers": all(_is_count(process, _MOST_PROCESS) for process in processes),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise ValueError(f"its {wrong[0]} cannot be")
    return record


def check_job(values: Mapping[str, Any]) -> None:
    """ValueError for what cannot be the content of job.json (launch.targets.local.about)."""
    if wrong := [name for name, kind in _JOB.items() if not isinstance(values.get(name), kind)]:
        raise ValueError(f"its {wrong[0]} is missing, or of another type")
    options = values["spec"].get("options")
    if not isinstance(options, dict) or not _is_count(options.get("workers"), MOST_WORKERS) or not options["workers"]:
        raise ValueError("it does not say how many workers")


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
