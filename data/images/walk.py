"""The images below a folder: what is hidden is left out, links to folders are followed, and nothing is left out in silence.

Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from convoy.data.images.suffixes import is_image
from convoy.listing import entries_of

# Systems and programs put these beside what a person put there, as they do with names that begin with a dot.
_HIDDEN = frozenset(
    {
        "__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
        "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__",
    }
)  # fmt: skip


class Noun(NamedTuple):
    """What a thing is called, and several of them."""

    singular: str
    plural: str


HIDDEN = Noun("hidden file or folder", "hidden files or folders")
LISTED = Noun("linked folder that is listed anyway", "linked folders that are listed anyway")
NO_IMAGE = Noun("file that is no image", "files that are no images")
UNLABELLED = Noun(
    "image without a label, which `convoy predict` is for", "images without labels, which `convoy predict` is for"
)


class LeftOut:
    """What is passed over: how many there are of each kind, and the first of them by path."""

    def __init__(self) -> None:
        self._counts, self._firsts = Counter[Noun](), dict[Noun, str]()

    def add(self, noun: Noun, path: str) -> None:
        self._counts[noun] += 1
        self._firsts[noun] = min(path, self._firsts.get(noun, path))

    def note(self) -> str:
        """A sentence on what is left out; empty if nothing is."""
        kinds = []
        for noun, first in sorted(self._firsts.items()):
            count = self._counts[noun]
            kinds.append(
                f"1 {noun.singular} ({first!r})" if count == 1 else f"{count:,} {noun.plural} ({first!r}, ...)"
            )
        return f"Note: left out: {'; '.join(kinds)}." if kinds else ""


def is_hidden(name: str) -> bool:
    """Whether a file or a folder of this name is not a person's own, or not to be shown."""
    return name.startswith(".") or name.lower() in _HIDDEN


def folders_in(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, and of links there to other folders, in order; none that is hidden."""
    folders = (entry for entry in entries_of(folder) if not is_hidden(entry.name) and entry.is_dir())
    return tuple(sorted(entry.name for entry in folders if not (entry.is_symlink() and leads_back(entry.path))))


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link to nowhere or to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def leads_back(link: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return _is_within(os.path.realpath(os.path.dirname(link)), os.path.realpath(link))  # noqa: PTH120


def images_below(folder: Path | str, left_out: LeftOut) -> Iterator[str]:
    """The paths of the images at any depth below a folder, in order.

    Links to folders are followed, but for those whose images are listed without the link: so every folder is listed once, and a
    circle has an end. Only the names in one folder are held, and those in the folders above it.

    Raises:
      OSError: a folder cannot be listed.
    """
    root = os.path.join(folder, "")  # noqa: PTH118 - a Path would take the slash off
    links = _Links(root)
    pending = [(root, "", _names(root, left_out))]
    while pending:
        place, real, names = pending[-1]  # a folder, its real path if it was reached by a link, and what is left in it
        if (name := next(names, None)) is None:
            pending.pop()
            continue
        path = place + name
        if not path.endswith("/"):
            yield path
            continue
        if path.endswith("//"):
            path = path[:-1]
            inner = links.behind(path[:-1])
        else:
            inner = links.below(real, name) if real else ""
        if inner is None:
            left_out.add(LISTED, path[:-1])
        else:
            pending.append((path, inner, _names(path, left_out)))


def _names(folder: str, left_out: LeftOut) -> Iterator[str]:
    """The images, folders (NAME/) and links to folders (NAME//) in a folder: in the order of the paths at and below them."""
    names = list[str]()
    with contextlib.suppress(FileNotFoundError), os.scandir(folder.rstrip("/") or "/") as entries:
        for entry in entries:
            if is_hidden(entry.name):
                left_out.add(HIDDEN, entry.path)
            elif entry.is_dir(follow_symlinks=False):
                names.append(f"{entry.name}/")
            elif entry.is_symlink() and leads_to_folder(entry):
                names.append(f"{entry.name}//")
            elif is_image(entry):
                names.append(entry.name)
            else:
                left_out.add(NO_IMAGE, entry.path)
    names.sort()
    return iter(names)


class _Links:
    """The folders that a walk reaches through links: each is entered once, and none that is listed without them."""

    def __init__(self, root: str) -> None:
        self._root, self._entered = root, set[str]()

    def behind(self, link: str) -> str | None:
        """The real path of the folder that a link leads to; None if it is not to be entered."""
        return None if leads_back(link) else self._enter(os.path.realpath(link))

    def below(self, folder: str, name: str) -> str | None:
        """The same of a folder, NAME/, that stands in one that was reached through a link."""
        return self._enter(os.path.join(folder, name[:-1]))  # noqa: PTH118

    def _enter(self, real: str) -> str | None:
        if real in self._entered or self._is_listed(real):
            return None
        self._entered.add(real)
        return real

    def _is_listed(self, real: str) -> bool:
        """Whether the walk comes there without a link."""
        if not _is_within(real, self._real_root):
            return False
        return not any(map(is_hidden, real[len(self._real_root) :].split("/")))

    @functools.cached_property
    def _real_root(self) -> str:
        return os.path.realpath(self._root)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))  # noqa: PTH118
