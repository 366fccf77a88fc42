"""A pod's first process: finds out which worker of a job it is, waits until its peers can be found, and starts the run.

`python -P -m convoy.launch.worker -- FLAGS`, with the flags of `convoy train`, reads from its environment

    CONVOY_JOB              the job's name
    CONVOY_WORKERS          how many workers share the run [1]
    CONVOY_HOSTS            the names of their hosts, in order, separated by commas; HOST:PORT where the port is another one
    CONVOY_PORT             where they listen for each other [2222]
    JOB_COMPLETION_INDEX    which of them this is, from 0
    CONVOY_RESTART_ATTEMPT  how often the whole job has begun again [0]
    CONVOY_GRACE_SECONDS    from SIGTERM to SIGKILL [30]
    CONVOY_DNS_SECONDS      how long peers' names may take to resolve [300]

and ends with the exit code of the run. Until all names resolve nothing heavy is imported: TensorFlow and JAX do not wait for a
name, and pods that start together get theirs seconds apart.

CONVOY_WRITER (convoy/supervise.py), where it is set, passes through: one name for all attempts of a job that never overlap, so
that each takes the run directory over from a dead one before it at once. It has to be a submission's own, a JobSet's uid for
example: a job of the same name may run in another cluster.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType

from convoy import exits
from convoy.trainer import config as configuration
from convoy.trainer.run_dir import trust
from convoy.trainer.verbs import train

# Between two looks for the same name, which every worker looks for: a cluster has one name server.
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.25, 5.0
_TELL_SECONDS = 30.0
# What is left of the grace for this process itself once its run has been killed.
_MARGIN_SECONDS = 5.0
_MOST_NAMES = 8  # in a sentence


@dataclasses.dataclass(frozen=True)
class WorkerIdentity:
    """One worker of a job. Raises CannotRun for an environment that names none."""

    job: str
    index: int
    hosts: tuple[str, ...]  # HOST:PORT of every worker, in order
    attempt: int = 0
    grace_seconds: float = 30.0
    dns_seconds: float = 300.0

    @property
    def peers(self) -> list[str]:
        """The names of the other hosts."""
        return [host.rpartition(":")[0] for index, host in enumerate(self.hosts) if index != self.index]

    @property
    def answer_seconds(self) -> float:
        """How long the run may take to answer a signal."""
        return max(self.grace_seconds - _MARGIN_SECONDS, self.grace_seconds / 2)


def from_environment(environment: Mapping[str, str] = os.environ) -> WorkerIdentity:
    """The variables of this module's docstring -> a place."""

    def number(name: str, default: float) -> float:
        text = environment.get(name) or str(default)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or (isinstance(default, int) and value != int(value)):
            kind = "a whole number" if isinstance(default, int) else "a number of seconds"
            raise exits.CannotRun(f"{name}={text} is not {kind}, 0 or more; `convoy launch` sets it.")
        return value

    workers, index = int(number("CONVOY_WORKERS", 1)), int(number("JOB_COMPLETION_INDEX", 0))
    port = int(number("CONVOY_PORT", 2222))
    hosts = [host.strip() for host in environment.get("CONVOY_HOSTS", "").split(",") if host.strip()]
    if workers > 1 and len(hosts) != workers:
        raise exits.CannotRun(
            f"CONVOY_HOSTS names {len(hosts)} hosts and CONVOY_WORKERS is {workers}; `convoy launch` sets both."
        )
    if workers > 1 and "JOB_COMPLETION_INDEX" not in environment:
        raise exits.CannotRun(
            f"JOB_COMPLETION_INDEX is not set, so nobody knows which of {workers} workers this is; Jobs of Kubernetes set it"
            " where their completionMode is Indexed."
        )
    if index >= max(workers, 1):
        raise exits.CannotRun(f"JOB_COMPLETION_INDEX={index} is not among CONVOY_WORKERS={workers}, counted from 0.")
    return WorkerIdentity(
        environment.get("CONVOY_JOB", ""),
        index,
        tuple(host if ":" in host else f"{host}:{port}" for host in hosts),
        int(number("CONVOY_RESTART_ATTEMPT", 0)),
        number("CONVOY_GRACE_SECONDS", 30.0),
        number("CONVOY_DNS_SECONDS", 300.0),
    )


def cluster_variables(
    identity: WorkerIdentity, backend: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What tells a run its peers (trainer/processes): TF_CONFIG, or JAX's three variables; nothing for a single worker.

    A slice of TPUs has numbers of its own: GKE sets TPU_WORKER_ID and TPU_WORKER_HOSTNAMES, which libtpu reads and which
    stay as they are. JAX counts processes as libtpu does, so with them the number is theirs, and so is the first host.
    """
    if len(identity.hosts) < 2:
        return {}
    if backend == "tensorflow":
        task_of_ours = {"type": "worker", "index": identity.index}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(identity.hosts)}, "task": task_of_ours})}
    index, first = identity.index, identity.hosts[0]
    if number := environment.get("TPU_WORKER_ID"):
        names = [name.strip() for name in environment.get("TPU_WORKER_HOSTNAMES", "").split(",")]
        if len(names) != len(identity.hosts) or number not in map(str, range(len(names))):
            raise exits.CannotRun(
                f"TPU_WORKER_ID={number} and TPU_WORKER_HOSTNAMES={','.join(names)} do not name one of the"
                f" {len(identity.hosts)} workers of this job; give it exactly one slice of TPUs."
            )
        index, first = int(number), f"{names[0]}:{first.rpartition(':')[2]}"
    return {
        "JAX_COORDINATOR_ADDRESS": first,
        "JAX_NUM_PROCESSES": str(len(identity.hosts)),
        "JAX_PROCESS_ID": str(index),
    }


def wait_for_names(names: Iterable[str], seconds: float) -> None:
    """Returns once all names resolve; TryAgain, with the missing ones, if some do not within `seconds`."""
    missing = set(names)
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    over = threading.Event()

    def look(name: str) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not over.is_set():
            try:
                socket.getaddrinfo(name, None)
            except (OSError, UnicodeError):
                over.wait(pause)
                pause = min(2 * pause, _LAST_PAUSE_SECONDS)
            else:
                found.put(name)
                return

    # Threads, since a name server that does not answer holds a look for half a minute, and a signal must not wait for it.
    for name in missing:
        threading.Thread(target=look, args=(name,), name=f"look for {name}", daemon=True).start()
    begun = told = time.monotonic()
    try:
        while missing:
            now = time.monotonic()
            if now - begun >= seconds:
                raise exits.TryAgain(
                    f"no address within {seconds:g} s for {_some(missing)}: that worker has not started, or its name is not"
                    " published; the whole job may be tried again."
                )
            if now - told >= _TELL_SECONDS:
                told = now
                print(f"convoy: still waiting for the address of {_some(missing)}.", file=sys.stderr, flush=True)
            try:
                missing.discard(found.get(timeout=min(begun + seconds - now, told + _TELL_SECONDS - now)))
            except queue.Empty:
                continue
    finally:
        over.set()


def check_model(model: str, job: str) -> None:
    """CannotRun if --model names a module of the user's own that is not here. Imports none of it: it may import Keras."""
    module, separator, _ = model.partition(":")
    if separator and not trust.find(module):
        raise exits.CannotRun(
            f"--model={model}: job {job} has no module {module}, neither installed nor in its working directory {Path.cwd()}; a"
            " pod has what its image has (k8s/Dockerfile), a TPU VM the package that was there when the job was submitted."
        )


def main(argv: list[str]) -> int:
    """The worker: exit codes are those of `convoy train`."""
    # The kernel passes over signals to a first process that has no handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if argv[:1] != ["--"]:
        raise exits.UsageError("a worker's flags, those of `convoy train`, stand after --.")
    flags = argv[1:]
    config = configuration.from_argv(flags)
    identity = from_environment()
    check_model(config.model, identity.job)
    workers = max(len(identity.hosts), 1)
    restart = f", restart {identity.attempt}" if identity.attempt else ""
    # Without the prefix "convoy: ": the last sentence with that prefix says why a worker ended.
    print(f"Worker {identity.index} of {workers} of job {identity.job}{restart}.", file=sys.stderr, flush=True)
    os.environ |= cluster_variables(identity, config.backend)
    wait_for_names(identity.peers, identity.dns_seconds)
    return train.main(flags, identity.answer_seconds)


def _leave(number: int, _frame: FrameType | None) -> None:
    # Once: another one, while this one's sentence is written, would end in a traceback and the code of a bug.
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise exits.Stopped("stopped before the run began.")
    raise exits.TryAgain("asked to leave by SIGTERM before the run began.")


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


if __name__ == "__main__":
    exits.call(lambda: main(sys.argv[1:]))
