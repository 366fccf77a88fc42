"""A pod's first process: finds out which worker of a job it is, waits until its peers can be found, and starts the run.

`python -P -m convoy.launch.worker -- FLAGS`, with the flags of `convoy train`, reads from its environment

    CONVOY_JOB              the job's name
    CONVOY_WORKERS          how many workers share the run [1]
    CONVOY_HOSTS            the names of their hosts, in order, separated by commas; HOST:PORT where the port differs
    CONVOY_PORT             the port on which they listen for each other [2222]
    JOB_COMPLETION_INDEX    the index of this worker, from 0
    CONVOY_RESTART_ATTEMPT  how often the whole job has begun again [0]
    CONVOY_GRACE_SECONDS    from SIGTERM to SIGKILL [30]
    CONVOY_DNS_SECONDS      how long peers' names may take to resolve [300]

or, in a step of Slurm, SLURM_STEP_NODELIST and the like in place of hosts, indices and attempts (targets/slurm/step.py),
and ends with the exit code of the run. Nothing heavy is imported until all names resolve: TensorFlow and JAX do not wait for a
name, and pods that start together get their names seconds apart.

CONVOY_WRITER (convoy/supervise.py) passes through if it is set. It is one name for all attempts of a job, which never overlap,
so that each attempt takes over the run directory of a dead one at once. Each submission needs its own, a JobSet's uid for
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from convoy import entry, exits, supervise
from convoy.counting import counted
from convoy.launch.targets.slurm import step
from convoy.trainer import config as configuration
from convoy.trainer.models.names import is_users_own
from convoy.trainer.run_dir import trust
from convoy.trainer.verbs import train

# Between two lookups of the same name. Every worker looks up every name, and a cluster has one name server.
_FIRST_PAUSE_SECONDS = 0.25
_LAST_PAUSE_SECONDS = 5.0
_REPORT_SECONDS = 30.0
_MARGIN_SECONDS = 5.0  # of the grace period, left for this process once its run has been killed
_MAX_NAMES = 8  # in a sentence


@dataclasses.dataclass(frozen=True)
class WorkerIdentity:
    """Which worker of which job this process is, and where its peers are."""

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
    """The variables of this module's docstring -> an identity; CannotRun for values that name no worker."""

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

    if "CONVOY_HOSTS" not in environment and "SLURM_STEP_NODELIST" in environment:
        environment = {**environment, **step.variables(environment)}
    workers = int(number("CONVOY_WORKERS", 1))
    index = int(number("JOB_COMPLETION_INDEX", 0))
    port = int(number("CONVOY_PORT", 2222))
    hosts = [host.strip() for host in environment.get("CONVOY_HOSTS", "").split(",") if host.strip()]
    if workers > 1 and len(hosts) != workers:
        raise exits.CannotRun(
            f"CONVOY_HOSTS names {counted(len(hosts), 'host')} and CONVOY_WORKERS is {workers}; `convoy launch` sets both."
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
    """The variables that tell a run its peers (trainer/processes): TF_CONFIG, or three of JAX; none for a single worker.

    A slice of TPUs numbers its workers itself: GKE sets TPU_WORKER_ID and TPU_WORKER_HOSTNAMES for libtpu. JAX numbers
    processes as libtpu does, so index and first host are taken from these variables if they are set.
    """
    if len(identity.hosts) < 2:
        return {}
    if backend == "tensorflow":
        task = {"type": "worker", "index": identity.index}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(identity.hosts)}, "task": task})}
    index = identity.index
    coordinator = identity.hosts[0]
    if number := environment.get("TPU_WORKER_ID"):
        names = [name.strip() for name in environment.get("TPU_WORKER_HOSTNAMES", "").split(",")]
        if len(names) != len(identity.hosts) or number not in map(str, range(len(names))):
            raise exits.CannotRun(
                f"TPU_WORKER_ID={number} and TPU_WORKER_HOSTNAMES={','.join(names)} do not name one of the"
                f" {counted(len(identity.hosts), 'worker')} of this job; give it exactly one slice of TPUs."
            )
        index = int(number)
        coordinator = f"{names[0]}:{coordinator.rpartition(':')[2]}"
    return {
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": str(len(identity.hosts)),
        "JAX_PROCESS_ID": str(index),
    }


def wait_for_names(names: Iterable[str], seconds: float) -> None:
    """Returns once all names resolve; raises TryAgain, naming the missing ones, after `seconds`."""
    missing = set(names)
    resolved: queue.SimpleQueue[str] = queue.SimpleQueue()
    finished = threading.Event()

    def look_up(name: str) -> None:
        for pause in _pauses():
            try:
                socket.getaddrinfo(name, None)
            except (OSError, UnicodeError):
                if finished.wait(pause):
                    return
            else:
                resolved.put(name)
                return

    # In threads: a name server that does not answer holds a lookup for half a minute, and a signal must not wait for it.
    for name in missing:
        threading.Thread(target=look_up, args=(name,), name=f"look up {name}", daemon=True).start()
    begun = reported = time.monotonic()
    try:
        while missing:
            now = time.monotonic()
            if now - begun >= seconds:
                raise exits.TryAgain(
                    f"no address within {seconds:g} s for {_listed(missing)}: that worker has not started, or its name is not"
                    " published; the whole job may be tried again."
                )
            if now - reported >= _REPORT_SECONDS:
                reported = now
                print(f"convoy: still waiting for the address of {_listed(missing)}.", file=sys.stderr, flush=True)
            try:
                missing.discard(resolved.get(timeout=min(begun + seconds - now, reported + _REPORT_SECONDS - now)))
            except queue.Empty:
                continue
    finally:
        finished.set()


def _pauses() -> Iterator[float]:
    """Seconds between two lookups of a name: longer and longer."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LAST_PAUSE_SECONDS)


def check_model(model: str, job: str) -> None:
    """Raises CannotRun if --model names a module that is not installed here. Does not import it: it may import Keras."""
    module = model.partition(":")[0]
    if is_users_own(model) and not trust.find(module):
        raise exits.CannotRun(
            f"--model={model}: job {job} has no module {module}, neither installed nor in its working directory {Path.cwd()}; a"
            " pod has what its image has (k8s/Dockerfile), a TPU VM the package that was there when the job was submitted."
        )


def main(argv: list[str]) -> int:
    """Runs the worker; exit codes are those of `convoy train`."""
    # The kernel ignores signals to a PID 1 that has no handler for them.
    for number in supervise.leave_signals():
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
    # A second signal while the sentence is written would end in a traceback and the exit code of a bug.
    for ignored in supervise.leave_signals():
        signal.signal(ignored, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise exits.Stopped("stopped before the run began.")
    raise exits.TryAgain(f"asked to leave by {signal.Signals(number).name} before the run began.")


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


if __name__ == "__main__":
    entry.call(lambda: main(sys.argv[1:]))
