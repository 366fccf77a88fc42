"""The heartbeat of a run: bytes through a pipe to its parent, which say that it lives and how far it is.

The parent acts where the run cannot. While TensorFlow waits for a peer it holds Python's lock, so no signal handler and no
watchdog thread of the run gets a turn.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

ALIVE = b"."
CAN_SAVE = b"g"  # the run has something to save now, so the parent waits longer for it after a signal
DONE = b"d"  # the run has finished; a kill after this changes nothing
NOTICE = b"n"  # this machine is about to go away; do not restart on it
SECONDS_BETWEEN_SIGNS = 1.0

_writer: int | None = None


def connect(writer: int) -> None:
    """Makes `beat` write to this file descriptor from now on."""
    global _writer
    _writer = writer
    os.set_blocking(writer, False)


def beat(sign: bytes = ALIVE) -> None:
    """Sends a byte to the parent; does nothing without a parent."""
    if _writer is not None:
        with contextlib.suppress(OSError):  # the pipe is full, or the parent is gone, which another thread notices
            os.write(_writer, sign)


@contextlib.contextmanager
def beating() -> Iterator[None]:
    """Beats in a thread while the block runs. For local work: reading, decoding, building; not for waiting for peers."""
    over = threading.Event()

    def pump() -> None:
        while not over.wait(SECONDS_BETWEEN_SIGNS):
            beat()

    thread = threading.Thread(target=pump, name="heartbeat", daemon=True)
    thread.start()
    beat()
    try:
        yield
    finally:
        over.set()
        thread.join()
        beat()
