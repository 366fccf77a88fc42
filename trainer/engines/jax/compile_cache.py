"""Programs that XLA has compiled, kept for the next start: --compile_cache.

An executable is code: it is read from a folder where this user alone can write, or from a bucket that the person trusts
(docs/security.md). JAX decides what is the same program; it hashes the program itself, its versions and its options.

JAX 0.10 writes its own files in place. One that a killed process left half written is refused at every start, and never
replaced. Ours appear whole, and one that is damaged is removed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import stat
import sys
from pathlib import Path
from typing import Protocol

import jax
from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface

from convoy import exits
from convoy.data.parallel import cores
from convoy.data.records.caches import caches, is_remote
from convoy.outside import Name, name_in
from convoy.store import Store, open_store
from convoy.trainer.engines.onednn import instructions

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
MAX_BYTES = 1 << 30  # of a folder
_MAX_ENTRY_BYTES = 1 << 28
_DIGEST_BYTES = 32
_SUFFIX, _PARTIAL = ".xla", ".partial"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # a start has dozens of small programs
    "jax_persistent_cache_enable_xla_caches": None,  # XLA's own files, which nobody checks or bounds
    "jax_raise_persistent_cache_errors": False,
}


class Storage(Protocol):
    """Where entries are kept. What cannot be read or written is an OSError or a ConvoyError."""

    name: str

    def read(self, entry: str) -> bytes | None:
        """An entry's bytes; None if there is none that may be used."""

    def write(self, entry: str, data: bytes) -> None: ...

    def remove(self, entry: str) -> None: ...


class Folder:
    """A folder of this user's, held open: whatever its path leads to later, entries are in the one that was looked at.

    Raises:
      exits.CannotRun: it cannot be made, or others may write there.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES):
        self.name, self._max_bytes = str(path), max_bytes
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise exits.CannotRun(f"{path} cannot be used ({exits.reason(error)})") from error
        if not _own(os.fstat(self._descriptor)):
            os.close(self._descriptor)
            raise exits.CannotRun(f"others than you may write to {path}; `chmod go-w` it, or name another folder")

    def read(self, entry: str) -> bytes | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(entry, flags, dir_fd=self._descriptor)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not (stat.S_ISREG(status.st_mode) and _own(status) and status.st_size <= _MAX_ENTRY_BYTES):
                return None
            data = file.read()
        with contextlib.suppress(OSError):
            os.utime(entry, dir_fd=self._descriptor)  # the entry that was unused for longest goes first
        return data

    def write(self, entry: str, data: bytes) -> None:
        self._make_room(len(data))
        partial = f"{entry.removesuffix(_SUFFIX)}.{os.getpid()}{_PARTIAL}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(partial, flags, 0o600, dir_fd=self._descriptor), "wb") as file:
                file.write(data)
            os.rename(partial, entry, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except OSError:
            self.remove(partial)
            raise

    def remove(self, entry: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(entry, dir_fd=self._descriptor)

    def _make_room(self, needed: int) -> None:
        """Removes the entries that were unused for longest, and what killed writers left, until this many bytes fit."""
        entries = []
        for name in os.listdir(self._descriptor):  # noqa: PTH208 - the folder that is open
            if name.endswith((_SUFFIX, _PARTIAL)):
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                    entries.append((status.st_mtime, name, status.st_size))
        total = needed + sum(size for _, _, size in entries)
        for _, name, size in sorted(entries):
            if total <= self._max_bytes:
                break
            self.remove(name)
            total -= size


class Bucket:
    """A place in a bucket that the person trusts. Nothing is removed there to make room: a bucket has rules of its own for
    that."""

    def __init__(self, url: str):
        self.name = url
        self._store: Store = open_store(url, "compile_cache")

    def read(self, entry: str) -> bytes | None:
        try:
            return self._store.get(_name(entry), max_bytes=_MAX_ENTRY_BYTES)
        except FileNotFoundError:
            return None

    def write(self, entry: str, data: bytes) -> None:
        self._store.put(_name(entry), data)

    def remove(self, entry: str) -> None:
        self._store.remove(_name(entry))


class Programs(CacheInterface):
    """What JAX looks for before it compiles, and gives what it has compiled. Nothing that goes wrong here ends a run.

    An entry is a digest and what it is of. Its name has JAX's key and a digest of this machine: XLA compiles for the
    instructions of the processor and the number of its cores.
    """

    def __init__(self, storage: Storage):
        self.storage = storage
        self._path = Path(storage.name)  # JAX logs it
        self._fails = False

    def get(self, key: str) -> bytes | None:
        entry = _entry(key)
        try:
            data = self.storage.read(entry)
            if data is None:
                return None
            digest, value = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if _digest(value) == digest:
                return value
            self.storage.remove(entry)
        except (OSError, exits.ConvoyError) as error:
            self._give_up("read", error)
        return None

    def put(self, key: str, value: bytes) -> None:
        if self._fails or len(value) >= _MAX_ENTRY_BYTES - _DIGEST_BYTES:
            return
        try:
            self.storage.write(_entry(key), _digest(value) + value)
        except (OSError, exits.ConvoyError) as error:
            self._give_up("written", error)

    def _give_up(self, what: str, error: Exception) -> None:
        if not self._fails:
            _tell(f"{self.storage.name} cannot be {what} ({exits.reason(error).rstrip('.')})")
        self._fails = True


def use(asked: str, trusted: bool = False) -> None:
    """Has JAX keep its programs where --compile_cache says, before it compiles the first one.

    Args:
      asked: the flag.
      trusted: --trust_compile_cache.
    """
    if os.environ.get(VARIABLE):
        return  # the person's own setting, and JAX's own way of keeping programs
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", None)
    if asked == "off":
        return
    try:
        storage = _storage(asked, trusted)
    except exits.CannotRun as error:
        _tell(str(error).rstrip("."))
        return
    if not hasattr(compilation_cache, "get_file_cache"):
        _tell(f"JAX {jax.__version__} keeps them in another way than Convoy knows")
        return
    compilation_cache.get_file_cache = lambda path: (Programs(storage), path)
    for name, value in {**_SETTINGS, "jax_compilation_cache_dir": storage.name}.items():
        jax.config.update(name, value)


def _storage(asked: str, trusted: bool) -> Storage:
    if is_remote(asked):
        if not trusted:  # validation.check_compile_cache has refused it before
            raise exits.CannotRun(f"{asked} is a bucket, which needs --trust_compile_cache")
        return Bucket(asked)
    return Folder(caches() / "compiled" if asked == "auto" else Path(os.path.expanduser(asked)))  # noqa: PTH111


def _tell(why: str) -> None:
    print(f"convoy: compiled programs are not kept for the next start: {why}.", file=sys.stderr, flush=True)


def _own(status: os.stat_result) -> bool:
    """Whether this user, and nobody else, may write a file or folder."""
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


def _entry(key: str) -> str:
    """A file's name for a key, of any length and any characters."""
    return hashlib.sha256(f"{_machine()}\0{key}".encode()).hexdigest() + _SUFFIX


@functools.cache
def _machine() -> str:
    return " ".join([platform.machine(), str(cores()), *sorted(instructions())])


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _name(entry: str) -> Name:
    return name_in(entry, "the compile cache")
