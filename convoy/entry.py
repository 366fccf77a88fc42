"""A process from its main to its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from convoy import exits, supervise, terminal
from convoy.outside import printable

_LINES = "\n\t"


def call(function: Callable[[], int | None]) -> NoReturn:
    """Runs `function` and exits the process with its code: a sentence for what is understood, a traceback for a bug.

    The process flushes its output and leaves through `os._exit`. TensorFlow's threads and atexit handlers can hang or abort a
    process that is done, and that abort would replace the exit code.
    """
    terminal.guard()
    # A scheduler warns all processes of a job; what has nothing to save goes on.
    signal.signal(supervise.SAVE, signal.SIG_IGN)
    try:
        code = function() or exits.OK
    except exits.ConvoyError as error:
        print(f"convoy: {printable(str(error), keep=_LINES)}", file=sys.stderr)
        code = error.code
    except KeyboardInterrupt:
        code = exits.STOPPED
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else exits.BUG
    except BaseException:
        print(printable(traceback.format_exc(), keep=_LINES), end="", file=sys.stderr)
        code = exits.BUG
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
