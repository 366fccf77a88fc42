"""stdout and stderr that outlast whoever reads them: `convoy train ... | head`, a terminal that was closed.

What is written after that goes nowhere, and the command goes on to the exit code that it would have had. One that is there to
be read asks `is_read`, and ends.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import Any, TextIO, cast

_unread: set[int] = set()


def lasting(stream: TextIO | None, number: int) -> TextIO:
    """The stream of this number, without errors of its reader from now on; what somebody put in its place stays as it is."""
    if stream is not (sys.__stdout__ if number == 1 else sys.__stderr__):
        return cast(TextIO, stream)
    if stream is None:  # closed when this process began: the next file that is opened would be taken for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return open(number, "w", closefd=False)
    ours = cast(io.TextIOWrapper, stream)
    ours.flush()
    raw = _Lasting(number, "wb", closefd=False)
    return io.TextIOWrapper(
        # python -u, and PYTHONUNBUFFERED, have no buffer.
        cast(Any, raw if isinstance(ours.buffer, io.RawIOBase) else io.BufferedWriter(raw)),
        encoding=ours.encoding,
        errors=ours.errors,
        line_buffering=ours.line_buffering,
        write_through=ours.write_through,
    )


def is_read(number: int = 1) -> bool:
    """Whether nothing was written yet that nobody could read."""
    return number not in _unread


class _Lasting(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not self._is_of_its_reader(error):
                raise
        # Under the number itself, since C++ writes there as well.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        _unread.add(self.fileno())
        return memoryview(data).nbytes

    def _is_of_its_reader(self, error: OSError) -> bool:
        """EPIPE and the like; and of a terminal EIO, which of a file is a broken disk."""
        is_device = stat.S_ISCHR(os.fstat(self.fileno()).st_mode)
        return isinstance(error, ConnectionError) or (error.errno == errno.EIO and is_device)
