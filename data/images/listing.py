"""The image files that a person names: files, folders and patterns. Imports nothing heavy."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from convoy import exits
from convoy.listing import entries_of, listing, walk
from convoy.outside import open_file

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
_PIECE = 1 << 16  # bytes of a list that are read at a time; no path is longer


class ImageFile(NamedTuple):
    """A file to read. `reason`, to follow its path in a sentence, says why there is nothing to read."""

    path: str
    reason: str = ""


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry is an image, by its name; a link to a folder, which is not followed, is none."""
    return entry.name.lower().endswith(SUFFIXES) and not (entry.is_symlink() and _leads_to_folder(entry))


def image_files(places: Iterable[str]) -> Iterator[ImageFile]:
    """The files that places name, in the order of the places, those of a folder or pattern in the order of their paths.

    Only the names in a folder are held, and those in the folders above it: a million files take about 100 MB at most.

    Args:
      places: each a file, whatever its name; a folder, of which the images at any depth are taken, and links within to
        folders are not followed; or a pattern with *, ? or [...] within the parts of its path, for what a shell would make
        of it.

    Raises:
      exits.CannotRun, exits.TryAgain: a folder cannot be listed.
    """
    for place in places:
        path = place if os.path.lexists(place) else os.path.expanduser(place)  # noqa: PTH111 - which leaves ~nobody as it is
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from _images_at(path)
            continue
        matched = False
        with listing(path):
            for match in _matches("/" if path.startswith("/") else "", [part for part in path.split("/") if part]):
                matched = True
                yield from _images_at(match)
        if not matched:
            yield ImageFile(path, "matches no file")


def listed_places(path: str) -> Iterator[str]:
    """The places that a file names, one a line; or each ended by a NUL, if there is one in the file's first 64 KiB.

    Raises:
      exits.CannotRun: it cannot be read.
      exits.BadData: it is no such list.
    """
    try:
        with open_file(path) as file:
            rest = piece = file.read(_PIECE)
            end, blank = (b"\0", b"") if b"\0" in piece else (b"\n", b"\r")
            while piece:
                *names, rest = rest.split(end)
                yield from (os.fsdecode(name.rstrip(blank)) for name in names if name.rstrip(blank))
                if len(rest) > _PIECE:
                    raise exits.BadData(f"--list={path} names no files: it has no ends of lines; name another file.")
                piece = file.read(_PIECE)
                rest += piece
            if rest:
                yield os.fsdecode(rest)
    except OSError as error:
        raise exits.CannotRun(f"--list={path} cannot be read: {exits.reason(error)}.") from error


def _images_at(path: str) -> Iterator[ImageFile]:
    if not os.path.isdir(path):  # noqa: PTH112
        yield ImageFile(path)
        return
    empty = True
    with listing(path):
        for image in walk(path, is_image):
            empty = False
            yield ImageFile(image)
    if empty:
        yield ImageFile(path, f"holds no image ({', '.join(SUFFIXES)})")


def _matches(folder: str, parts: list[str]) -> Iterator[str]:
    """The paths below a folder that match a pattern's parts, in order."""
    if not parts:
        yield folder
        return
    part, *rest = parts
    if not glob.has_magic(part):
        path = os.path.join(folder, part)  # noqa: PTH118 - a Path would take a leading ./ off
        if os.path.lexists(path):
            yield from _matches(path, rest)
        return
    if folder and not os.path.isdir(folder):  # noqa: PTH112
        return
    entries = [entry for entry in entries_of(folder or ".") if not rest or _leads_to_folder(entry)]
    for name in sorted(entry.name for entry in entries if fnmatch.fnmatchcase(entry.name, part)):
        if not name.startswith(".") or part.startswith("."):
            yield from _matches(os.path.join(folder, name), rest)  # noqa: PTH118


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link to nowhere or to itself is an image that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False
