"""The image files that a person names: files, folders and patterns. Imports nothing heavy."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from convoy import exits
from convoy.data.images.walk import LeftOut, images_below, is_hidden, leads_to_folder
from convoy.listing import entries_of, listing
from convoy.outside import open_file

_PIECE = 1 << 16  # bytes of a list that are read at a time; no path is longer


class ImageFile(NamedTuple):
    """A file to read. `reason`, to follow its path in a sentence, says why there is nothing to read."""

    path: str
    reason: str = ""


def image_files(places: Iterable[str], left_out: LeftOut | None = None) -> Iterator[ImageFile]:
    """The files that places name, in the order of the places, those of a folder or pattern in the order of their paths.

    Only the names in a folder are held, and those in the folders above it: a million files take about 100 MB at most.

    Args:
      places: each a file, whatever its name; a folder, of which the images are taken that a data set takes (images_below); or a
        pattern with *, ? or [...] within the parts of its path, for what a shell would make of it, less hidden folders.
      left_out: gets what is passed over in folders.

    Raises:
      exits.CannotRun, exits.TryAgain: a folder cannot be listed.
    """
    left_out = left_out or LeftOut()
    for place in places:
        path = place if os.path.lexists(place) else os.path.expanduser(place)  # noqa: PTH111 - which leaves ~nobody as it is
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from _images_at(path, left_out)
            continue
        matched = False
        with listing(path):
            for match in _matches("/" if path.startswith("/") else "", [part for part in path.split("/") if part]):
                matched = True
                yield from _images_at(match, left_out)
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


def _images_at(path: str, left_out: LeftOut) -> Iterator[ImageFile]:
    if not os.path.isdir(path):  # noqa: PTH112
        yield ImageFile(path)
        return
    empty = True
    with listing(path):
        for image in images_below(path, left_out):
            empty = False
            yield ImageFile(image)
    if empty:
        yield ImageFile(path, "holds no image")


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
    entries = [entry for entry in entries_of(folder or ".") if not rest or leads_to_folder(entry)]
    for name in sorted(entry.name for entry in entries if fnmatch.fnmatchcase(entry.name, part)):
        if not is_hidden(name) or part.startswith(name[0]):
            yield from _matches(os.path.join(folder, name), rest)  # noqa: PTH118
