"""Where Convoy keeps on this machine what it can make or fetch again. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from convoy.outside import name_in


def caches() -> Path:
    """$XDG_CACHE_HOME/convoy, ~/.cache/convoy; a place where nothing can be kept for a user whom the system does not know."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "convoy")
    except RuntimeError:  # as in a container
        return Path(os.devnull, "convoy")


def is_remote(place: str) -> bool:
    return place.startswith("gs://")


def copy_of(url: str, data_dir: str) -> Path:
    """Where the copy of what a url holds lives: below --data_dir, or else in the user's cache. BadData for one that climbs."""
    # expanduser leaves an unknown ~user as it is, where a Path raises.
    below = Path(os.path.expanduser(data_dir)) if data_dir else caches() / "records"  # noqa: PTH111
    place = "/".join(part for part in url.removeprefix("gs://").split("/") if part)
    return below / name_in(place, url)
