"""The boundary: bytes that somebody else wrote become a value here, or an error in a sentence.

Run directories, buckets, packed records and job folders may come from a stranger. `name_in` makes a `Name` of a name that was
read there; no other way leads from it to a path. `open_file` opens files, `parse_json` reads JSON documents, and `printable`
makes text safe for a terminal. Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NewType

from convoy import exits

# A place inside a root: relative, with `/` between its parts, and no part is `..`. Stores take no other names.
Name = NewType("Name", str)

MAX_NAME_BYTES = 1024  # what Google Cloud Storage allows for an object's name
MAX_PART_BYTES = 255  # what Linux allows for a file's name
MAX_DOCUMENT_BYTES = 16 << 20  # of JSON; parsed, it takes about 25 times as much memory


def name_in(text: object, source: str) -> Name:
    """Checks a name that was read somewhere and returns it as a place inside a root.

    Args:
      text: the name, of whatever type it was read as.
      source: where it was read, for the sentence.

    Raises:
      exits.BadData: it is no text, absolute, climbs, is empty or too long, or has control characters or backslashes.
    """
    if not isinstance(text, str):
        raise exits.BadData(
            f"{printable(source)} has {printable(repr(text)[:60])} in the place of a name; do not use it."
        )
    reason = _why_not(text)
    if reason:
        raise exits.BadData(
            f"{printable(source)} names {printable(repr(text[:200]))}, which {reason}; nothing was read or written there."
            " Do not trust where it comes from."
        )
    return Name(text)


def below(folder: Name, *parts: str) -> Name:
    """A place below a folder; the parts are checked like any name."""
    return name_in("/".join((folder, *parts)), folder)


def _why_not(text: str) -> str:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not text or len(encoded) > MAX_NAME_BYTES:
        return f"has {len(encoded)} bytes, and 1 to {MAX_NAME_BYTES} are possible"
    if text.startswith("/"):
        return "is absolute"
    if "\\" in text:
        return "has a backslash"
    if not text.isprintable():
        return "has characters that cannot be shown"
    for part in text.split("/"):
        if part == "..":
            return "climbs out of its folder"
        if part in ("", "."):
            return "has an empty part"
        if len(part.encode()) > MAX_PART_BYTES:
            return f"has a part of more than {MAX_PART_BYTES} bytes"
    return ""


@contextlib.contextmanager
def open_file(path: Path | str, directory: int | None = None) -> Iterator[BinaryIO]:
    """A regular file to read. Never waits: a FIFO, a device or a folder in its place is an error.

    Args:
      path: the file; links are followed.
      directory: a descriptor of the folder that a relative path starts at; then no link is followed.

    Raises:
      OSError: the system's own, FileNotFoundError among them.
      exits.BadData: it is no regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags | (os.O_NOFOLLOW if directory is not None else 0), dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise exits.BadData(f"{printable(str(path))} is no regular file; remove it or name another place.")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def open_lock(path: Path | str, directory: int | None = None, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """A descriptor of a file to lock: never behind a link, never waited for, its content left alone.

    Args:
      path: the file, which is made if it is not there.
      directory: a descriptor of the folder that a relative path starts at.

    Raises:
      OSError: the system's own.
      exits.BadData: it is no regular file.
    """
    descriptor = -1
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
    if descriptor >= 0 and stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    if descriptor >= 0:
        os.close(descriptor)
    raise exits.BadData(f"{printable(str(path))} is no regular file; remove it or name another place.")


def read_file(path: Path | str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a regular file of a bounded size. See open_file."""
    with open_file(path) as file:
        # Python makes room for all that it is asked to read, before it knows what is there.
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1) if size <= max_bytes else b""
    if max(size, len(data)) > max_bytes:
        raise exits.BadData(f"{printable(str(path))} has more than {max_bytes:,} bytes, which no file of its kind has.")
    return data


def parse_json(data: bytes | str, source: str, finite: bool = True) -> Any:
    """The value of a JSON document.

    Args:
      finite: refuse NaN and infinities; records of a run may hold them.

    Raises:
      exits.BadData: it is not UTF-8, not JSON, nested too deep, or has a number that is not finite or has too many digits.
    """
    checks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(data, **checks)
    except (ValueError, RecursionError, TypeError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise exits.BadData(f"{printable(source)} does not read as JSON: {printable(what)}.") from error


def parse_object(data: bytes | str, source: str) -> dict[str, Any]:
    """Like parse_json, for a document that must be an object."""
    value = parse_json(data, source)
    if not isinstance(value, dict):
        raise exits.BadData(f"{printable(source)} holds a {type(value).__name__} where an object is expected.")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def printable(text: str, keep: str = "") -> str:
    """Text that a terminal shows and does not obey: control characters, other invisible ones and surrogates as escapes.

    Args:
      keep: characters to leave as they are, such as line breaks.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
