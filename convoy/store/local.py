"""A store in a local folder: whole objects by fsync and rename, no link below the root followed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from convoy import exits
from convoy.listing import AWAY
from convoy.outside import MAX_DOCUMENT_BYTES, Name, name_in, open_file, open_lock, printable
from convoy.store.protocol import Data, too_large, too_short

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_LINK = {errno.ELOOP, errno.ENOTDIR}  # what O_NOFOLLOW says of one, the latter of what should be a folder
MAX_DEPTH = 16  # folders, of which a run makes two
LOCK = Name(".lock")
_PARTIAL = re.compile(r".*\.\d+\.partial", re.DOTALL)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # never waits for the other end of a FIFO


class LocalStore:
    """See convoy.store.Store. The root itself, which a person named, may be a link."""

    def __init__(self, root: str, flag: str = "run_dir"):
        self.root = Path(root).expanduser().absolute()
        self.url, self._flag = str(self.root), flag

    def put(self, name: Name, data: Data) -> int:
        with self._writing(name) as (folder, last), _partial(folder, last, data) as partial:
            os.replace(partial, last, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        return 0

    def put_if_absent(self, name: Name, data: Data) -> bool:
        with self._writing(name) as (folder, last), _partial(folder, last, data) as partial:
            try:
                # A hard link, unlike a rename, fails when the name is taken.
                os.link(partial, last, src_dir_fd=folder, dst_dir_fd=folder)
            except FileExistsError:
                return False
            except OSError as error:
                # Some file systems know no links; there the lock of the run directory has to do.
                if error.errno not in _NO_LINKS or _status(folder, last):
                    raise
                os.replace(partial, last, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
            return True

    def get(self, name: Name, generation: int = 0, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        with self._reading(name) as file:
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise too_large(f"{self.url}/{name}", max_bytes)
            return file.read()

    def download(self, name: Name, path: Path, generation: int = 0, max_bytes: float = math.inf) -> None:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with self._reading(name) as file:
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise too_large(f"{self.url}/{name}", int(max_bytes))
            try:
                with partial.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def get_range(self, name: Name, first: int, size: int) -> bytes:
        with self._reading(name) as file:
            data = os.pread(file.fileno(), size, first)
            if len(data) < size:
                raise too_short(f"{self.url}/{name}", first + size)
            return data

    def append(self, name: Name, text: str) -> None:
        with self._writing(name) as (folder, last):
            descriptor = os.open(last, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FILE, 0o666, dir_fd=folder)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise self._odd(name)
                torn = status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n"
                _write_all(descriptor, (b"\n" if torn else b"") + text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rewrite(self, name: Name, text: str) -> None:
        self.put(name, text.encode())

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def list_names(self, prefix: Name | None = None) -> list[Name]:
        with self._sentences("list", prefix or ""):
            return sorted(
                name_in(name, self.url) for name in self._walk(prefix) if name != LOCK and not _PARTIAL.fullmatch(name)
            )

    def remove(self, prefix: Name) -> None:
        with contextlib.suppress(FileNotFoundError), self._opened("remove", prefix, make=False) as (folder, last):
            status = _status(folder, last)
            if status and stat.S_ISDIR(status.st_mode):
                try:
                    shutil.rmtree(last, dir_fd=folder)  # which removes links, and nothing behind them
                except RecursionError:
                    raise exits.BadData(
                        f"{self._place(prefix)} has folders too deep to be removed; remove it."
                    ) from None
            elif status:
                os.unlink(last, dir_fd=folder)

    def folder(self, name: Name) -> Path:
        with self._writing(name) as (folder, last):
            with contextlib.suppress(FileExistsError):
                os.mkdir(last, dir_fd=folder)
            os.close(os.open(last, _FOLDER | os.O_NOFOLLOW, dir_fd=folder))
        return self.root / name

    def remove_partials(self) -> None:
        with self._sentences("remove", ""):
            for name in filter(_PARTIAL.fullmatch, self._walk(None)):
                self.remove(name_in(name, self.url))

    def first_entry(self) -> str:
        with self._sentences("list", ""):
            return next((entry.name for entry in os.scandir(self.root) if entry.name != LOCK), "")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._writing(LOCK) as (folder, last):
            try:
                # The kernel gives the lock back however this process dies; the file itself stays.
                descriptor = open_lock(last, folder)
            except exits.BadData:
                raise self._odd(LOCK) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise exits.CannotRun(
                    f"--{self._flag}={self.url}: another process is training there now; wait for it, stop it,"
                    " or choose another directory."
                ) from None
            except OSError as error:
                reason = exits.reason(error)
                raise exits.CannotRun(
                    f"cannot lock {self.root}: {reason}; choose a --{self._flag} on another file system."
                ) from error
            yield
        finally:
            os.close(descriptor)

    def _walk(self, prefix: Name | None) -> Iterator[str]:
        """Every name below a folder that is no folder itself. One that vanishes meanwhile is passed over: `convoy evaluate`
        reads beside a run that prunes. Any other error is one: a folder that cannot be listed is not empty."""
        pending = [prefix or ""]
        while pending:
            folder = pending.pop()
            with contextlib.suppress(FileNotFoundError):
                descriptor = self._descend(folder.split("/") if folder else [], make=False)
                try:
                    with os.scandir(descriptor) as entries:
                        for entry in entries:
                            name = f"{folder}/{entry.name}" if folder else entry.name
                            if name.count("/") > MAX_DEPTH:
                                raise exits.BadData(f"{self._place(name)} lies deeper than any run writes; remove it.")
                            if entry.is_dir(follow_symlinks=False):
                                pending.append(name)
                            else:
                                yield name
                finally:
                    os.close(descriptor)

    def _descend(self, folders: list[str], make: bool) -> int:
        """A descriptor of a folder below the root, reached through folders alone."""
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root, _FOLDER)
        try:
            for folder in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=descriptor)
                descriptor, above = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor), descriptor
                os.close(above)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def _opened(self, verb: str, name: Name, make: bool) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder in which an object stands, and the object's name there."""
        *folders, last = name_in(name, self.url).split("/")  # whoever calls without mypy is heard here
        with self._sentences(verb, name):
            descriptor = self._descend(folders, make)
            try:
                yield descriptor, last
            finally:
                os.close(descriptor)

    def _writing(self, name: Name) -> contextlib.AbstractContextManager[tuple[int, str]]:
        return self._opened("write", name, make=True)

    @contextlib.contextmanager
    def _reading(self, name: Name) -> Iterator[BinaryIO]:
        with self._opened("read", name, make=False) as (folder, last), contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open_file(last, directory=folder))
            except exits.BadData:
                raise self._odd(name) from None
            yield file

    def _place(self, name: str) -> str:
        return printable(str(self.root / name))

    def _odd(self, name: str) -> exits.BadData:
        return exits.BadData(
            f"{self._place(name)} is, or stands behind, a link, a pipe or another thing that is neither a file"
            " nor a folder; Convoy follows none inside a run directory. Remove it, or put the file itself there."
        )

    @contextlib.contextmanager
    def _sentences(self, verb: str, name: str) -> Iterator[None]:
        """Turns the operating system's refusals into sentences; a missing file stays FileNotFoundError."""
        place = self._place(name)
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = exits.reason(error)
            if error.errno in AWAY:
                raise exits.TryAgain(f"cannot {verb} {place} now: {reason}; the same command will continue.") from error
            if error.errno in _LINK and name and self.root.is_dir():
                raise self._odd(name) from error
            if error.errno in _FULL:
                remedy = f"free some space there or choose another --{self._flag}; what was saved before is untouched."
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                needed = "readable" if verb in ("read", "list") else "writable"
                remedy = f"make it {needed} for you or choose another --{self._flag}."
            else:
                remedy = f"choose another --{self._flag} if this place cannot be mended."
            raise exits.CannotRun(f"cannot {verb} {place}: {reason}; {remedy}") from error


@contextlib.contextmanager
def _partial(folder: int, last: str, data: Data) -> Iterator[str]:
    """The name of a new file with the data, durable, beside the one that it will become; gone afterwards."""
    partial = f"{last}.{os.getpid()}.partial"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial, dir_fd=folder)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=folder)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield partial
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)


def _status(folder: int, name: str) -> os.stat_result | None:
    """What stands there, itself if it is a link; None for nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _write_all(descriptor: int, data: Data) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
