"""The end of a process that cannot join its peers, or whose peers no longer answer."""

from __future__ import annotations

import faulthandler
import sys

from convoy import exits


def lost_peer(processes: int, what: str) -> exits.TryAgain:
    """The error for a collective that failed with `what`. Writes the stacks of all threads to stderr."""
    sys.stderr.flush()
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    others = f"one of the {processes - 1} other processes" if processes > 2 else "the other process"
    return exits.TryAgain(f"lost {others} ({what}); the same commands on all hosts continue.")


def cannot_join(processes: int, error: Exception) -> exits.TryAgain:
    """The error for a process that cannot open its own port, as the environment names it; most often it is still taken."""
    what = str(error).splitlines()[0]
    return exits.TryAgain(
        f"cannot join the other {processes - 1} of {processes} processes ({what}): its port may be taken; try it again, or give"
        " the processes other ports."
    )
