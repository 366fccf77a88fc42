"""--chaos: faults that a rehearsal injects, each in the first attempt of a job only."""

from __future__ import annotations

import dataclasses
import re

from convoy import chaos, exits

_FORM = re.compile(r"(?P<action>kill|term):worker-(?P<worker>\d+)@step=(?P<step>\d+)|dns:worker-(?P<lost>\d+)")


@dataclasses.dataclass(frozen=True)
class Faults:
    """Faults by worker.

    Attributes:
      variables: worker -> the CONVOY_CHAOS of its run, for a worker that is killed (SIGKILL) or asked to leave (SIGTERM).
      lost: workers whose names do not resolve for the others.
    """

    variables: dict[int, str]
    lost: frozenset[int]


def parse(text: str, workers: int) -> Faults:
    """kill:worker-1@step=40,term:worker-0@step=40,dns:worker-1 -> the faults of a job with `workers`.

    Raises:
      exits.UsageError: `text` has another form.
      exits.CannotRun: a worker that does not exist, or two deaths of one worker.
    """
    variables: dict[int, str] = {}
    lost = set()
    for part in filter(None, text.split(",")):
        match = _FORM.fullmatch(part.strip())
        if not match:
            raise exits.UsageError(
                f"--chaos={text}: `{part}` is none of kill:worker-1@step=40, term:worker-1@step=40 and dns:worker-1."
            )
        worker = int(match["worker"] or match["lost"])
        if worker >= workers:
            raise exits.CannotRun(f"--chaos={text}: there is no worker {worker} of {workers}; they count from 0.")
        if match["lost"]:
            if workers == 1:
                raise exits.CannotRun(f"--chaos={text}: nobody looks for the name of an only worker; give --workers=2.")
            lost.add(worker)
        elif worker in variables:
            raise exits.CannotRun(f"--chaos={text}: worker {worker} can end only once in an attempt; leave one out.")
        else:
            # Between two loops of steps, where checkpoints and evaluations happen too.
            variables[worker] = f"{match['action']}:between@{match['step']}"
    return Faults(variables, frozenset(lost))


def environment(faults: Faults, worker: int) -> dict[str, str]:
    """The variables that the faults add to a worker's environment in the first attempt."""
    return {chaos.VARIABLE: faults.variables[worker]} if worker in faults.variables else {}
