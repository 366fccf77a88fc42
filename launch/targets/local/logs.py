"""What a worker printed, from the logs of its starts in a job's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator

from convoy.launch.targets.local.job_folder import JobFolder

_LINE_BYTES = 1 << 20  # a longer line comes in pieces


def lines(folder: JobFolder, worker: int, follow: bool, over: Callable[[], bool], poll_seconds: float) -> Iterator[str]:
    """Lines of a worker's last start; with `follow` those of later starts too, until the job is `over`."""
    while (attempt := folder.last_attempt(worker)) is None:
        if not follow or over():
            return
        time.sleep(poll_seconds)
    while attempt is not None:
        attempt = yield from _attempt(folder, worker, attempt, follow, over, poll_seconds)


def _attempt(
    folder: JobFolder, worker: int, attempt: int, follow: bool, over: Callable[[], bool], poll_seconds: float
) -> Generator[str, None, int | None]:
    """Lines of a start; returns the start after it, None if there is none or nobody follows."""
    with folder.open_log(worker, attempt) as file:
        text = b""
        newer = None
        while newer is None:
            # Asked before reading: lines written before an end, or before another start, belong to this one.
            ended = not follow or over()
            newer = _next(folder, worker, attempt) if follow else None
            while piece := file.readline(_LINE_BYTES - len(text)):
                text += piece
                if piece.endswith(b"\n") or len(text) == _LINE_BYTES:
                    yield text.removesuffix(b"\n").decode(errors="replace")
                    text = b""
            if text and (ended or newer is not None):
                yield text.decode(errors="replace")
            if ended and newer is None:
                return None
            if newer is None:
                time.sleep(poll_seconds)
    return newer


def _next(folder: JobFolder, worker: int, attempt: int) -> int | None:
    """The first start after one that has a log."""
    last = folder.last_attempt(worker) or 0
    return next((later for later in range(attempt + 1, last + 1) if os.path.lexists(folder.log(worker, later))), None)
