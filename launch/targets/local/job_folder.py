"""The record of a rehearsed job: a folder for each job in the user's state directory.

$XDG_STATE_HOME/convoy/jobs/NAME/   (default: ~/.local/state)
  job.json       what was submitted, with its faults
  state.json     its state; replaced as a whole, so that a reader never sees half of it
  cancel         exists once somebody wants the job to end
  supervised     locked by the supervising process
  occupied       locked by the supervising process and its workers
  supervisor.log, logs/worker-N.attempt-M.log

The kernel releases a lock however its holders die, so a dead process is never mistaken for a living one.

A job's folder may come from a stranger. Links in it are not followed and only regular files are read. Its documents are checked
(exits.BadData, a sentence), and no signal is sent to a process that they name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from convoy import exits, outside
from convoy.launch.flags import JobName
from convoy.launch.targets.local.job_record import Record, check_job, read_record

SUPERVISED, OCCUPIED, SUPERVISOR_LOG = "supervised", "occupied", "supervisor.log"
_JOB, _STATE, _CANCEL, _LOGS = "job.json", "state.json", "cancel", "logs"
_LOG = re.compile(r"worker-(\d+)\.attempt-(\d+)\.log", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # never waits for the other end of a FIFO
_MAX_BYTES = 1 << 20  # of a document
F = TypeVar("F", bound="JobFolder")
R = TypeVar("R", bound=Record)


class JobFolder:
    """The folder of one job. Raises CannotRun for an impossible name, and for a directory that cannot be used."""

    kind = "jobs"  # the last part of the directory in which such folders lie

    def __init__(self, name: str):
        self.name = JobName(name).name  # checked: it becomes a part of a path
        self.path = home(self.kind) / self.name

    def exists(self) -> bool:
        """Whether there is a job, readable or not."""
        try:
            os.lstat(self.path / _JOB)
        except (FileNotFoundError, NotADirectoryError):
            return self.path.is_symlink()
        except OSError:  # reading it says why not
            return True
        return True

    def create(self, job: dict[str, Any], record: Record) -> int:
        """Creates the job, and returns the lock that its supervising process inherits."""
        with _sentences(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
            (self.path / _LOGS).mkdir()
            lock = self.lock(SUPERVISED)
            self.write(record)
            # Last: with this file, the job exists.
            self._put(_JOB, job)
        return lock

    def job(self) -> dict[str, Any]:
        """What was submitted (`submission` in launch/targets/local/target.py).

        Raises FileNotFoundError if it was removed, BadData if it cannot be read, as every reader here does.
        """
        job = self._get(_JOB)
        with self._reading(_JOB):
            self.check(job)
        return job

    @staticmethod
    def check(job: dict[str, Any]) -> None:
        """Raises BadData for what cannot be job.json."""
        check_job(job)

    def chaos(self) -> str:
        """The faults that it was submitted with; empty if they cannot be read."""
        try:
            return self.job()["chaos"]
        except (FileNotFoundError, exits.BadData):
            return ""

    def write(self, record: Record) -> None:
        self._put(_STATE, dataclasses.asdict(record))

    def read(self) -> Record:
        """The job's state."""
        return self._state(read_record)

    def _state(self, read: Callable[[dict[str, Any]], R]) -> R:
        """state.json, as `read` reads it."""
        try:
            values = self._get(_STATE)
        except FileNotFoundError:
            if not self.exists():
                raise
            raise self._broken(_STATE, "it is not there") from None
        with self._reading(_STATE):
            return read(values)

    def ask_to_cancel(self) -> None:
        with _sentences(self.path), contextlib.suppress(FileExistsError), self._opened() as folder:
            os.close(os.open(_CANCEL, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=folder))

    def asked_to_cancel(self) -> bool:
        return os.path.lexists(self.path / _CANCEL)

    def log(self, worker: int, attempt: int) -> Path:
        return self.path / _LOGS / _log(worker, attempt)

    def last_attempt(self, worker: int) -> int | None:
        """The last attempt of which a worker has a log, from 0; None before the first."""
        with self._reading(_LOGS), self._opened(_LOGS) as folder, os.scandir(folder) as entries:
            matches = [_LOG.fullmatch(entry.name) for entry in entries]
        return max((int(match[2]) for match in matches if match and int(match[1]) == worker), default=None)

    @contextlib.contextmanager
    def open_log(self, worker: int, attempt: int) -> Iterator[BinaryIO]:
        """A worker's log, to read."""
        name = _log(worker, attempt)
        with contextlib.ExitStack() as stack:
            with self._reading(f"{_LOGS}/{name}"):
                folder = stack.enter_context(self._opened(_LOGS))
                file = stack.enter_context(outside.open_file(name, folder))
            yield file

    def new_log(self, worker: int, attempt: int) -> BinaryIO:
        """A worker's log, to write; replaces a file or link of that name."""
        with _sentences(self.path), self._opened(_LOGS) as folder:
            return _new(_log(worker, attempt), folder)

    def new_supervisor_log(self) -> BinaryIO:
        """What the supervising process prints, to write."""
        with _sentences(self.path), self._opened() as folder:
            return _new(SUPERVISOR_LOG, folder)

    def lock(self, which: str) -> int:
        """Waits for the lock; returns a descriptor that holds it as long as any process that inherits it lives."""
        with _sentences(self.path), self._opened() as folder:
            descriptor = _open_lock(which, os.O_RDWR | os.O_CREAT, folder, self.path / which)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def supervised(self) -> bool:
        """Whether the supervising process lives."""
        try:
            with self._opened() as folder:
                descriptor = _open_lock(SUPERVISED, os.O_RDONLY, folder, self.path / SUPERVISED)
        except (OSError, exits.BadData):  # a supervising process makes another kind of file
            return False
        try:
            # Shared, so that two processes that ask at the same time do not mistake each other for the supervisor.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def remove(self) -> None:
        """Waits until the last process of the job has ended, and removes its folder; of a link, only the link."""
        with _sentences(self.path):
            if self.path.is_symlink():
                self.path.unlink()
                return
            with contextlib.suppress(exits.BadData):  # a file that is no lock has no holder
                os.close(self.lock(OCCUPIED))
            with self._opened() as folder, contextlib.suppress(FileNotFoundError, IsADirectoryError):
                # First: without this file, there is no job.
                os.unlink(_JOB, dir_fd=folder)
            shutil.rmtree(self.path)

    @contextlib.contextmanager
    def _opened(self, *below: str) -> Iterator[int]:
        """A descriptor of the folder, or of a folder in it; follows no link."""
        descriptor = os.open(self.path, _FOLDER)
        try:
            for name in below:
                parent = descriptor
                descriptor = os.open(name, _FOLDER, dir_fd=parent)
                os.close(parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _get(self, name: str) -> dict[str, Any]:
        """A document. Raises FileNotFoundError if there is none."""
        with self._reading(name, missing=True), self._opened() as folder, outside.open_file(name, folder) as file:
            data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
            return outside.parse_object(data, "it")

    @contextlib.contextmanager
    def _reading(self, name: str, missing: bool = False) -> Iterator[None]:
        """Turns errors of a file inside into BadData; with `missing`, FileNotFoundError stays."""
        try:
            yield
        except (OSError, ValueError, exits.BadData) as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            raise self._broken(name, _reason(error)) from error

    def _broken(self, name: str, why: str) -> exits.BadData:
        return exits.BadData(
            f"{outside.printable(str(self.path / name))} cannot be used: {why}; `convoy launch gc` removes what is left of that"
            " job once it has ended."
        )

    def _put(self, name: str, content: Any) -> None:
        with _sentences(self.path), self._opened() as folder:
            partial = f"{name}.{os.getpid()}.partial"
            with _new(partial, folder) as file:
                file.write((json.dumps(content, indent=1) + "\n").encode())
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)


def folders(kind: type[F]) -> list[F]:
    """The folders of all jobs of a kind, by name."""
    place = home(kind.kind)
    with _sentences(place):
        try:
            with os.scandir(place) as entries:
                names = sorted(
                    entry.name for entry in entries if entry.is_symlink() or entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []
    candidates = []
    for name in names:
        with contextlib.suppress(exits.CannotRun):  # a folder with another kind of name
            candidates.append(kind(name))
    return [folder for folder in candidates if folder.exists()]


@contextlib.contextmanager
def changing(kind: str = JobFolder.kind) -> Iterator[None]:
    """Keeps other processes from adding or removing jobs."""
    place = home(kind)
    with _sentences(place):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = _open_lock(".lock", os.O_RDWR | os.O_CREAT, folder, place / ".lock")
        finally:
            os.close(folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return "it is, or stands behind, a link or what is no folder, which Convoy does not follow there"
        return exits.reason(error)
    return str(error).rstrip(".")


def _log(worker: int, attempt: int) -> str:
    return f"worker-{worker}.attempt-{attempt}.log"


def _new(name: str, folder: int) -> BinaryIO:
    """A new file in a folder, to write; replaces a file or link of that name."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=folder), "wb")


def _open_lock(name: str, flags: int, folder: int, place: Path) -> int:
    """See outside.open_lock."""
    try:
        return outside.open_lock(name, folder, flags)
    except exits.BadData:
        raise exits.BadData(f"{outside.printable(str(place))} is no regular file; remove it.") from None


def home(kind: str) -> Path:
    """The directory of all folders of a kind; CannotRun for a user without a home."""
    # The convention: an absolute path, and any other value is ignored.
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:  # a user id that no passwd knows, and no HOME: common in containers
        raise exits.CannotRun(
            "this user has no home directory; set XDG_STATE_HOME to a folder that is yours."
        ) from None
    return base / "convoy" / kind


@contextlib.contextmanager
def _sentences(place: Path) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise exits.CannotRun(f"{place} is nested too deep to be removed; remove it by hand.") from error
    except OSError as error:
        # A file opened below a descriptor is named by its last part alone.
        raise exits.CannotRun(
            f"cannot use {place / str(error.filename or '')}: {exits.reason(error)}; set XDG_STATE_HOME to a"
            " folder that is yours and has room."
        ) from error
