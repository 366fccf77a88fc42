"""A store in a local folder: whole objects by fsync and rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from convoy import exits
from convoy.store import Data

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.EHOSTDOWN}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_LOCK = ".lock"
_PARTIAL = re.compile(r".*\.\d+\.partial")


class LocalStore:
    """See convoy.store.Store."""

    def __init__(self, root: str):
        self.root = Path(root).expanduser().absolute()
        self.url = str(self.root)

    def put(self, name: str, data: Data) -> int:
        with self._sentences("write", name):
            partial = self._write_partial(name, data)
            partial.replace(self.root / name)
            _sync_folder((self.root / name).parent)
        return 0

    def claim(self, name: str, data: Data) -> bool:
        with self._sentences("write", name):
            partial = self._write_partial(name, data)
            target = self.root / name
            try:
                # A hard link, unlike a rename, fails when the name is taken.
                os.link(partial, target)
            except FileExistsError:
                return False
            except OSError as error:
                # Some file systems know no links; there the lock of the run directory has to do.
                if error.errno not in _NO_LINKS or target.exists():
                    raise
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder((self.root / name).parent)
            return True

    def get(self, name: str, generation: int = 0) -> bytes:
        with self._sentences("read", name):
            return (self.root / name).read_bytes()

    def fetch(self, name: str, path: Path, generation: int = 0) -> None:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with self._sentences("read", name):
            try:
                shutil.copyfile(self.root / name, partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def append(self, name: str, text: str) -> None:
        with self._sentences("write", name):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
                _write_all(descriptor, (b"\n" if torn else b"") + text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rewrite(self, name: str, text: str) -> None:
        self.put(name, text.encode())

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def names(self, prefix: str = "") -> list[str]:
        with self._sentences("list", prefix):
            # os.walk passes over folders that vanish meanwhile: `convoy evaluate` reads beside a run that prunes.
            return sorted(
                os.path.relpath(os.path.join(folder, file), self.root)  # noqa: PTH118
                for folder, _, files in os.walk(self.root / prefix)
                for file in files
                if file != _LOCK and not _PARTIAL.fullmatch(file)
            )

    def remove(self, prefix: str) -> None:
        path = self.root / prefix
        with self._sentences("remove", prefix):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        with self._sentences("remove", ""):
            for folder, _, files in os.walk(self.root):
                for file in files:
                    if _PARTIAL.fullmatch(file):
                        Path(folder, file).unlink(missing_ok=True)

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
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise exits.CannotRun(
                    f"cannot lock {self.root}: {reason}; choose a --run_dir on another file system."
                ) from error
            yield
        finally:
            os.close(descriptor)

    def _write_partial(self, name: str, data: Data) -> Path:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
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
            if error.errno in _AWAY:
                raise exits.TryAgain(f"cannot {verb} {place} now: {reason}; the same command will continue.") from error
            if error.errno in _FULL:
                remedy = "free some space there or choose another --run_dir; what was saved before is untouched."
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                remedy = "make it writable for you or choose another --run_dir."
            else:
                remedy = "choose another --run_dir if this place cannot be mended."
            raise exits.CannotRun(f"cannot {verb} {place}: {reason}; {remedy}") from error


def _write_all(descriptor: int, data: Data) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
