"""Faults on purpose, for tests and rehearsals: `CONVOY_CHAOS=kill:manifest@40` kills this process at that moment.

The value is ACTION:PHASE@STEP: the first time the run passes PHASE at step STEP or later, it gets SIGKILL (kill), SIGTERM
(term), SIGINT (int) or SIGUSR1 (usr1). `+MILLISECONDS` after the step delays it, so that it lands inside what follows. Unset,
a passed phase costs one comparison.
"""

from __future__ import annotations

import os
import re
import signal
import threading

from convoy import exits

VARIABLE = "CONVOY_CHAOS"
PHASES = ["start", "between", "step", "evaluation", "snapshot", "upload", "manifest", "removal", "restore", "end"]
_ACTIONS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "usr1": signal.SIGUSR1}
_FORM = re.compile(r"(?P<action>\w+):(?P<phase>\w+)@(?P<step>\d+)(?:\+(?P<delay>\d+))?")


class Chaos:
    """One armed fault, or none."""

    def __init__(self, text: str):
        self.phase = ""
        if not text:
            return
        match = _FORM.fullmatch(text)
        if not match or match["action"] not in _ACTIONS or match["phase"] not in PHASES:
            raise exits.CannotRun(
                f"{VARIABLE}={text} is not ACTION:PHASE@STEP with an action of {', '.join(_ACTIONS)}"
                f" and a phase of {', '.join(PHASES)}."
            )
        self.phase, self.step = match["phase"], int(match["step"])
        self.signal, self.delay = _ACTIONS[match["action"]], int(match["delay"] or 0) / 1000

    def at(self, phase: str, step: int) -> None:
        """Says that the run is entering `phase` at `step`."""
        if phase != self.phase or step < self.step:
            return
        self.phase = ""
        if self.delay:
            timer = threading.Timer(self.delay, os.kill, (os.getpid(), self.signal))
            timer.daemon = True
            timer.start()
        else:
            os.kill(os.getpid(), self.signal)


def from_environment() -> Chaos:
    return Chaos(os.environ.get(VARIABLE, ""))
