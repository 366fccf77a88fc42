"""What a run tells the parent that started it, byte by byte through a pipe: signs of life, and how far it is.

The parent acts on it where the run itself cannot: while TensorFlow waits for a peer it holds Python's lock, and neither a
signal handler nor a watchdog thread of the run's own would get a turn.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

ALIVE = b"."
CAN_SAVE = b"g"  # from here on there is something to save, and a signal deserves an answer
DONE = b"d"  # whatever kills the run now, it has done its work
NOTICE = b"n"  # this machine is about to go: a restart on it would be in vain
SECONDS_BETWEEN_SIGNS = 1.0

_writer: int | None = None


def connect(writer: int) -> None:
    """From now on `beat` writes to this file descriptor."""
    global _writer
    _writer = writer
    os.set_blocking(writer, False)


def beat(sign: bytes = ALIVE) -> None:
    """Gives the parent a sign; without a parent, nothing."""
    if _writer is not None:
        with contextlib.suppress(OSError):  # the pipe is full, or the parent is gone, which another thread notices
            os.write(_writer, sign)


@contextlib.contextmanager
def beating() -> Iterator[None]:
    """Gives signs of life for as long as this process works by itself: reading, decoding, building; not waiting for peers."""
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
