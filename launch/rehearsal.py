"""The process that supervises a job on this machine, as a cluster would: `python -m launch.rehearsal NAME`.

It runs the command and the environment of the job's pods (launch/manifest.py), a process for each worker; the hosts are all
127.0.0.1, so their ports differ. It follows the failure policy of k8s/base: when a worker fails, the others are asked to leave
and all begin again, unless its exit code says that this would be in vain.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from convoy import chaos, exits, layout, supervise
from launch import faults as chaotic
from launch import job, manifest, shell
from launch.faults import Faults
from launch.job import JobSpec
from launch.state import OCCUPIED, JobFolder
from launch.targets import CANCELLED, FAILED, RESTARTING, RUNNING, SUCCEEDED

LOOK_SECONDS = 0.1
_OUT_OF_TIME = "out of time"  # an end of an attempt, beside the phases
# What of the submitting shell's environment is another run's, or would make every attempt fail.
_OTHERS = (
    "TF_CONFIG",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    chaos.VARIABLE,
    supervise.PARENT_PIPE,
)
# A cluster's patience would make a rehearsed loss of a name take minutes.
_REHEARSED_DNS_SECONDS = "10"
_PR_SET_PDEATHSIG = 1


def may_try_again(code: int) -> bool:
    """Whether a worker's exit code is worth another attempt: the rule of k8s/base."""
    return code == exits.TRY_AGAIN or (code >= 128 and code != exits.STOPPED)


def command(spec: JobSpec) -> list[str]:
    """What each worker runs: the pod's command with this interpreter."""
    return [sys.executable, *manifest.command(spec)[1:]]


def environments(spec: JobSpec, attempt: int, ports: Iterable[object], faults: Faults) -> list[dict[str, str]]:
    """What each worker finds in its environment beside that of this process."""
    hosts = [f"127.0.0.1:{port}" for port in ports]
    faults = faults if attempt == 0 else Faults({}, frozenset())
    found = []
    for worker in range(spec.workers):
        # That domain is reserved for names that never resolve.
        seen = [
            f"worker-{other}.invalid:{host.rpartition(':')[2]}" if other in faults.lost - {worker} else host
            for other, host in enumerate(hosts)
        ]
        found.append(
            manifest.environment(spec, seen)
            | {"JOB_COMPLETION_INDEX": str(worker), "CONVOY_RESTART_ATTEMPT": str(attempt)}
            | chaotic.environment(faults, worker)
        )
        if faults.lost and "CONVOY_DNS_SECONDS" not in os.environ:
            found[-1]["CONVOY_DNS_SECONDS"] = _REHEARSED_DNS_SECONDS
    return found


def describe(spec: JobSpec, faults: Faults) -> str:
    """The processes of a first attempt, a command line each."""
    lines = [f"# {spec.name}: {spec.workers} processes on this machine, at most {_most_restarts(spec)} restarts"]
    for own in environments(spec, 0, (f"PORT{worker}" for worker in range(spec.workers)), faults):
        lines.append(shell.line([*(f"{name}={value}" for name, value in own.items()), *command(spec)]))
    return "\n".join(lines)


def _most_restarts(spec: JobSpec) -> int:
    return spec.options.max_restarts if spec.options.gang == "jobset" else 0


class Rehearsal:
    """One job from its first attempt to its end."""

    def __init__(self, folder: JobFolder):
        self.folder = folder
        content = folder.job()
        self.spec = job.from_dict(content["spec"])
        self.faults = chaotic.parse(content["chaos"], self.spec.workers)
        self.writer = content["id"]
        self.record = dataclasses.replace(folder.read(), supervisor=os.getpid())
        self.workers: list[subprocess.Popen[bytes]] = []
        # The workers inherit it: who removes the folder waits for the last of them, should this process die before.
        self.occupied = folder.lock(OCCUPIED)

    def run(self) -> None:
        attempt = 0
        while True:
            self._start(attempt)
            self._tell(RUNNING)
            phase, failed = self._watch()
            self._end()
            if phase == CANCELLED:
                return self._tell(CANCELLED, self._last_words(0, attempt))
            if phase == _OUT_OF_TIME:
                return self._tell(FAILED, f"not finished within --hours={self.spec.options.hours:g}", exits.TRY_AGAIN)
            if phase == SUCCEEDED:
                return self._tell(SUCCEEDED, code=exits.OK)
            code = _code(self.workers[failed])
            reason = f"worker {failed} ended with exit code {code}"
            if words := self._last_words(failed, attempt):
                reason += f": {words}"
            if not may_try_again(code):
                return self._tell(FAILED, reason, code)
            if self.record.restarts >= _most_restarts(self.spec):
                return self._tell(FAILED, f"no restart is left of {_most_restarts(self.spec)}; {reason}", code)
            if self.folder.asked_to_cancel():
                return self._tell(CANCELLED, reason)
            self.record.restarts += 1
            attempt += 1
            self._tell(RESTARTING, reason)

    def _start(self, attempt: int) -> None:
        rest = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        self.workers = []
        for worker, own in enumerate(environments(self.spec, attempt, _free_ports(self.spec.workers), self.faults)):
            with self.folder.log(worker, attempt).open("wb") as log:
                process = subprocess.Popen(
                    command(self.spec),
                    env={**rest, **own, supervise.WRITER: self.writer},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    pass_fds=(self.occupied,),
                    preexec_fn=_end_with_parent,
                )
            self.workers.append(process)

    def _watch(self) -> tuple[str, int]:
        """Waits for the end of an attempt: FAILED and the worker; SUCCEEDED once all workers have; _OUT_OF_TIME; CANCELLED."""
        deadline = time.monotonic() + self.spec.options.hours * 3600
        while True:
            codes = {worker: process.poll() for worker, process in enumerate(self.workers)}
            if failed := [worker for worker, code in codes.items() if code]:
                # Of those that ended together, one that would end so again decides.
                return FAILED, min(failed, key=lambda worker: may_try_again(_code(self.workers[worker])))
            if None not in codes.values():
                return SUCCEEDED, 0
            if self.folder.asked_to_cancel():
                return CANCELLED, 0
            if time.monotonic() > deadline:
                return _OUT_OF_TIME, 0
            time.sleep(LOOK_SECONDS)

    def _end(self) -> None:
        """Ends whoever still runs: SIGTERM, and SIGKILL after the grace of a pod."""
        for process in self.workers:
            process.terminate()  # one that has ended hears nothing
        deadline = time.monotonic() + manifest.GRACE_SECONDS
        for process in self.workers:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _tell(self, phase: str, reason: str = "", code: int | None = None) -> None:
        self.record.phase, self.record.exit_code = phase, code
        if phase != RUNNING:  # while it runs again, why it had to is worth knowing
            self.record.reason = reason
        self.record.workers = [process.pid for process in self.workers]
        self.folder.write(self.record)

    def _last_words(self, worker: int, attempt: int) -> str:
        """The last sentence that a worker's log has of Convoy; empty if it has none."""
        lines = _tail(self.folder.log(worker, attempt)).splitlines()
        said = (line.removeprefix("convoy: ") for line in reversed(lines) if line.startswith("convoy: "))
        return next(said, "").rstrip(".")


def _code(process: subprocess.Popen[bytes]) -> int:
    """As a container has it: a death by signal is 128 and its number."""
    code = process.returncode
    return 128 - code if code < 0 else code


def _tail(path: Path, most: int = 1 << 16) -> str:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - most, 0))
        return file.read().decode(errors="replace")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))  # of all addresses, as TensorFlow's servers do
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _end_with_parent() -> None:
    """In a worker: when the supervising process dies, the kernel asks this one to leave."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# Loaded before the fork, after which little is safe. Other systems than Linux have no such call.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(argv: list[str]) -> int:
    """Leaves the supervising process behind. It inherits the lock that says that it lives (launch/state.py)."""
    folder = JobFolder(argv[0])
    if os.fork():
        return exits.OK  # who submitted the job is no parent, who would have to wait for its end
    try:
        Rehearsal(folder).run()
    except BaseException as error:
        record = folder.read()
        record.phase, record.exit_code = FAILED, error.code if isinstance(error, exits.ConvoyError) else exits.BUG
        record.reason = (
            f"its supervising process failed ({type(error).__name__}: {error}); see {folder.path}/supervisor.log"
        )
        folder.write(record)
        raise
    return exits.OK


if __name__ == "__main__":
    layout.check_siblings()
    exits.call(lambda: main(sys.argv[1:]))
