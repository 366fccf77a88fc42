"""The end of a process whose peers no longer answer."""

from __future__ import annotations

import faulthandler
import sys

from convoy import exits


def lost_peer(processes: int, what: str) -> exits.TryAgain:
    """The error for a collective that failed with `what`; where all threads are is written to stderr."""
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    others = f"one of the {processes - 1} other processes" if processes > 2 else "the other process"
    return exits.TryAgain(f"lost {others} ({what}); the same commands on all hosts continue.")
