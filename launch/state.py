"""What this machine knows of the jobs that are rehearsed on it: a folder for each in the user's state directory.

$XDG_STATE_HOME/convoy/jobs/NAME/   (default: ~/.local/state)
  job.json       what was submitted, with its faults
  state.json     what it is doing; replaced as a whole, so that a reader never sees half of one
  cancel         there once somebody wants it to end
  supervised     locked by the supervising process, occupied by that and its workers: the kernel gives a lock back however
  occupied       its holders die, so that nobody is taken for alive who is not
  supervisor.log, logs/worker-N.attempt-M.log
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convoy import exits
from launch.where import Name

SUPERVISED, OCCUPIED = "supervised", "occupied"
_LOG = re.compile(r"worker-(\d+)\.attempt-(\d+)\.log")


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


class JobFolder:
    """The folder of one job. Raises CannotRun for what is no name of a job, and for a directory that cannot be used."""

    def __init__(self, name: str):
        self.name = Name(name).name  # no part of a path
        self.path = _home() / self.name

    def exists(self) -> bool:
        with _sentences(self.path):
            return (self.path / "job.json").exists()

    def create(self, job: dict[str, Any], record: Record) -> int:
        """Makes the job known, and returns the lock that is to be its supervising process's."""
        with _sentences(self.path):
            (self.path / "logs").mkdir(parents=True)
            lock = self.lock(SUPERVISED)
            self.write(record)
            # Last: with it, the job exists.
            self._put("job.json", job)
        return lock

    def job(self) -> dict[str, Any]:
        """What was submitted. FileNotFoundError if it was removed, ValueError if it cannot be read."""
        return self._get("job.json")

    def chaos(self) -> str:
        """The faults that it was submitted with; empty where none can be read."""
        try:
            return self.job()["chaos"]
        except (FileNotFoundError, ValueError):
            return ""

    def write(self, record: Record) -> None:
        self._put("state.json", dataclasses.asdict(record))

    def read(self) -> Record:
        """What it is doing. FileNotFoundError if it was removed, ValueError if it cannot be read."""
        try:
            return Record(**self._get("state.json"))
        except TypeError as error:  # another version of Convoy wrote it
            raise ValueError(str(error)) from error

    def ask_to_cancel(self) -> None:
        with _sentences(self.path):
            (self.path / "cancel").touch()

    def asked_to_cancel(self) -> bool:
        return (self.path / "cancel").exists()

    def log(self, worker: int, attempt: int) -> Path:
        return self.path / "logs" / f"worker-{worker}.attempt-{attempt}.log"

    def last_attempt(self, worker: int) -> int | None:
        """The last one that a worker has a log of, from 0; None before the first."""
        found = (_LOG.fullmatch(entry.name) for entry in (self.path / "logs").iterdir())
        return max((int(match[2]) for match in found if match and int(match[1]) == worker), default=None)

    def lock(self, which: str) -> int:
        """Waits for the lock; a descriptor that holds it as long as any process that inherits it lives."""
        with _sentences(self.path):
            descriptor = os.open(self.path / which, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def supervised(self) -> bool:
        """Whether the supervising process lives."""
        try:
            descriptor = os.open(self.path / SUPERVISED, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who look at the same time do not take each other for it.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def remove(self) -> None:
        """Waits until the last process of the job has gone, and removes all that is known of it."""
        with _sentences(self.path):
            os.close(self.lock(OCCUPIED))
            # First: without it, the job is none.
            (self.path / "job.json").unlink(missing_ok=True)
            shutil.rmtree(self.path)

    def _get(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(str(error)) from error

    def _put(self, name: str, content: Any) -> None:
        with _sentences(self.path):
            partial = self.path / f"{name}.{os.getpid()}.partial"
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(self.path / name)


def folders() -> list[JobFolder]:
    """Of all jobs, by name."""
    home = _home()
    with _sentences(home):
        try:
            names = sorted(entry.name for entry in os.scandir(home) if entry.is_dir())
        except FileNotFoundError:
            return []
    found = []
    for name in names:
        with contextlib.suppress(exits.CannotRun):  # some other folder that lies there
            found.append(JobFolder(name))
    return [folder for folder in found if folder.exists()]


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """Within, no other process adds or removes jobs."""
    home = _home()
    with _sentences(home):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _home() -> Path:
    # The convention wants an absolute path there, and any other one passed over.
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a user id that no passwd knows, and no HOME: common in containers
        raise exits.CannotRun(
            "this user has no home directory; set XDG_STATE_HOME to a folder that is yours."
        ) from None
    return base / "convoy" / "jobs"


@contextlib.contextmanager
def _sentences(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise exits.CannotRun(
            f"cannot use {error.filename or place}: {(error.strerror or str(error)).lower()}; set XDG_STATE_HOME to a folder"
            " that is yours and has room."
        ) from error
