"""Files that a flag names to be written: refused before seconds are spent on what would stand in them."""

from __future__ import annotations

import os
from pathlib import Path

from convoy import exits
from convoy.outside import printable


def check(flag: str, path: str) -> None:
    """CannotRun if no file can be written there; "" is none."""
    if not path:
        return
    folder = Path(path).parent
    if Path(path).is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif not os.access(path if os.path.lexists(path) else folder, os.W_OK):
        reason = "permission denied"
    else:
        return
    raise refusal(flag, path, reason)


def write(flag: str, path: str, content: bytes) -> None:
    """Writes the file; CannotRun if that fails."""
    try:
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise refusal(flag, path, exits.reason(error)) from error


def refusal(flag: str, path: str, reason: str) -> exits.CannotRun:
    return exits.CannotRun(
        f"--{flag}={printable(path)} cannot be written: {printable(reason)}; name a file in a folder that you may write to."
    )
