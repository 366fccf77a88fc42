"""A store in a local folder: whole objects by fsync and rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from convoy import exits

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOCK = ".lock"
_PARTIAL = ".partial"


class LocalStore:
    """See convoy.store.Store."""

    def __init__(self, root: str):
        self.url = root
        self.root = Path(root).expanduser().absolute()

    def put(self, name: str, data: bytes) -> None:
        with self._sentences("write", name):
            partial = self._write_partial(name, data)
            partial.replace(self.root / name)
            _sync_folder((self.root / name).parent)

    def claim(self, name: str, data: bytes) -> bool:
        with self._sentences("write", name):
            partial = self._write_partial(name, data)
            try:
                # A hard link, unlike a rename, fails when the name is taken.
                os.link(partial, self.root / name)
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder((self.root / name).parent)
            return True

    def get(self, name: str) -> bytes:
        with self._sentences("read", name):
            return (self.root / name).read_bytes()

    def append(self, name: str, text: str) -> None:
        with self._sentences("write", name):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            # One write of whole lines, at the end whatever happened before.
            descriptor = os.open(self.root / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _write_all(descriptor, text.encode())
            finally:
                os.close(descriptor)

    def names(self, prefix: str = "") -> list[str]:
        with self._sentences("list", prefix):
            return sorted(
                str(path.relative_to(self.root))
                for path in (self.root / prefix).rglob("*")
                if path.is_file() and path.name != _LOCK and not path.name.endswith(_PARTIAL)
            )

    def remove(self, prefix: str) -> None:
        path = self.root / prefix
        with self._sentences("remove", prefix):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def foreign(self) -> str:
        with self._sentences("list", ""):
            return next((entry.name for entry in os.scandir(self.root) if entry.name != _LOCK), "")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._sentences("write", _LOCK):
            self.root.mkdir(parents=True, exist_ok=True)
            # The kernel gives the lock back however this process dies; the file itself stays.
            descriptor = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise exits.CannotRun(
                    f"--run_dir={self.url}: another process is training there now; wait for it, stop it,"
                    " or choose another directory."
                ) from None
            # What a writer that died left of its last object: nobody else can be writing now.
            for partial in self.root.rglob(f"*{_PARTIAL}"):
                partial.unlink()
            yield
        finally:
            os.close(descriptor)

    def _write_partial(self, name: str, data: bytes) -> Path:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}{_PARTIAL}")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        return partial

    @contextlib.contextmanager
    def _sentences(self, verb: str, name: str) -> Iterator[None]:
        """Turns the operating system's refusals into sentences; a missing file stays FileNotFoundError."""
        place = self.root / name
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno in _FULL:
                remedy = "free some space there or choose another --run_dir; what was saved before is untouched."
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                remedy = "make it writable for you or choose another --run_dir."
            else:
                remedy = "choose another --run_dir if this place cannot be mended."
            raise exits.CannotRun(f"cannot {verb} {place}: {reason}; {remedy}") from error


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
