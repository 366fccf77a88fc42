"""What a task of a Slurm step is told of its peers: SLURM_* -> the variables of launch/worker.py. Asks Slurm nothing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from convoy import exits
from convoy.launch.flags import MAX_WORKERS
from convoy.outside import printable

# Below the ports that Linux gives to connections. Two jobs, and two starts of one job, rarely share a port.
FIRST_PORT, PORTS = 20_000, 12_000
# Set where all nodes are one machine, as in tests: the address of each of them. Ports differ then.
ONE_HOST = "CONVOY_ONE_HOST"
_ITEM = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_PIECE = re.compile(r"\[[^\[\]]*\]|[^\[\]]+")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_MAX_CHARACTERS = 1 << 16  # of a list of hosts


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a worker that srun started.

    Raises:
      exits.CannotRun: values that no step has.
    """
    index, job = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_JOB_ID")
    attempt = _number(environment, "SLURM_RESTART_COUNT", 0)
    names = hosts(environment["SLURM_STEP_NODELIST"])
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", len(names))
    if tasks != len(names):
        raise exits.CannotRun(
            f"SLURM_STEP_NUM_TASKS is {tasks} and SLURM_STEP_NODELIST names {len(names)}: a job of Convoy has one task a node;"
            " give --ntasks-per-node=1."
        )
    shared = environment.get(ONE_HOST)
    first = FIRST_PORT + (job * 16 + attempt) % PORTS
    peers = [f"{shared or name}:{first + bool(shared) * number}" for number, name in enumerate(names)]
    return {
        "CONVOY_JOB": environment.get("CONVOY_JOB") or environment.get("SLURM_JOB_NAME", ""),
        "CONVOY_WORKERS": str(len(peers)),
        "CONVOY_HOSTS": ",".join(peers),
        "JOB_COMPLETION_INDEX": str(index),
        "CONVOY_RESTART_ATTEMPT": str(attempt),
    }


def hosts(text: str) -> list[str]:
    """Slurm's list of nodes, `n[1-2,07-10],login,a[0-1]b[2-3]`, spelt out in its order.

    Raises:
      exits.CannotRun: it has another form, or names more than MAX_WORKERS hosts.
    """
    names: list[str] = []
    if len(text) <= _MAX_CHARACTERS and ",".join(_ITEM.findall(text)) == text:
        for item in _ITEM.findall(text):
            pieces = [list(itertools.islice(_choices(piece), MAX_WORKERS + 1)) for piece in _PIECE.findall(item)]
            names += map("".join, itertools.islice(itertools.product(*pieces), MAX_WORKERS + 1 - len(names)))
    if not 0 < len(names) <= MAX_WORKERS or not all(_HOST.fullmatch(name) for name in names):
        raise exits.CannotRun(
            f"SLURM_STEP_NODELIST={printable(text[:200])} is no list of 1 to {MAX_WORKERS:,} nodes; srun sets it."
        )
    return names


def _choices(piece: str) -> Iterator[str]:
    """What a piece of a name stands for: `n` for itself, `[1-2,07-10]` for numbers with as many digits as the first."""
    if not piece.startswith("["):
        yield piece
        return
    for part in piece[1:-1].split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            yield "?"  # in no name
            return
        for number in range(int(match[1]), int(match[2] or match[1]) + 1):
            yield str(number).zfill(len(match[1]))


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        raise exits.CannotRun(f"{name}={printable(text[:40])} is not a whole number, 0 or more; srun sets it.")
    return int(text)
