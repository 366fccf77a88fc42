"""The process that supervises a job on this machine, as a cluster would.

It runs the command of the job's pods (pod.py), a process for each worker, and follows the failure policy of k8s/base. When a
worker fails, the others are asked to leave and all begin again, unless its exit code is not worth a restart. Where it may, it
moves with its workers into a private network (network.py).
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from typing import BinaryIO

from convoy import entry, exits, supervise
from convoy.launch.build import from_dict
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import CANCELLED, FAILED, RESTARTING, RUNNING, SUCCEEDED
from convoy.launch.targets.kubernetes import manifest
from convoy.launch.targets.kubernetes.options import KubernetesOptions
from convoy.launch.targets.local import faults, network, pod
from convoy.launch.targets.local.job_folder import OCCUPIED, JobFolder

POLL_SECONDS = 0.1
GRACE_SECONDS = manifest.GRACE_SECONDS
_OUT_OF_TIME, _FORGOTTEN = "out of time", "forgotten"  # ends of an attempt, beside the phases
_PR_SET_PDEATHSIG = 1


def most_restarts(spec: JobSpec) -> int:
    """How often all workers may begin again."""
    return spec.options.max_restarts if spec.options.narrowed(KubernetesOptions).gang == "jobset" else 0


class Rehearsal:
    """One job from its first attempt to its end."""

    def __init__(self, folder: JobFolder):
        self.folder = folder
        content = folder.job()
        self.spec = from_dict(content["spec"])
        self.faults = faults.parse(content["chaos"], self.spec.workers)
        self.writer = content["id"]
        self.record = dataclasses.replace(folder.read(), supervisor=os.getpid())
        self.workers: list[subprocess.Popen[bytes]] = []
        # The workers inherit it: removing the folder waits for the last of them, even if this process died before.
        self.occupied = folder.lock(OCCUPIED)

    def run(self) -> None:
        attempt = 0
        while True:
            self._start(attempt)
            self._record(RUNNING)
            phase, failed = self._watch()
            self._end()
            if phase == _FORGOTTEN:  # the folder of that name may be another job's now
                return None
            if all(process.returncode == 0 for process in self.workers):  # a wish to end them came too late
                never = bool(self.folder.chaos()) and not self.record.restarts
                return self._record(SUCCEEDED, "--chaos never came: the run was over before" if never else "", exits.OK)
            if phase == CANCELLED:
                return self._record(CANCELLED, self._last_sentence(0, attempt))
            if phase == _OUT_OF_TIME:
                return self._record(FAILED, f"not finished within --hours={self.spec.options.hours:g}", exits.TRY_AGAIN)
            code = _code(self.workers[failed])
            sentence = self._last_sentence(failed, attempt)
            hint = f"`convoy launch logs --name={self.spec.name} --worker={failed}` has what it said"
            reason = f"worker {failed} ended with exit code {code}: {sentence or hint}"
            if not exits.worth_restarting(code):
                return self._record(FAILED, reason, code)
            if self.record.restarts >= most_restarts(self.spec):
                return self._record(FAILED, f"no restart is left of {most_restarts(self.spec)}; {reason}", code)
            if self.folder.asked_to_cancel():
                return self._record(CANCELLED, reason)
            self.record.restarts += 1
            attempt += 1
            self._record(RESTARTING, reason)

    def _start(self, attempt: int) -> None:
        command = pod.command(self.spec)
        ports = pod.free_ports(self.spec.workers)
        self.workers = []
        for worker, own in enumerate(pod.environments(self.spec, attempt, ports, self.faults)):
            with self.folder.new_log(worker, attempt) as log:
                process = subprocess.Popen(
                    command,
                    env={**pod.inherited(), **own, supervise.WRITER: self.writer},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    pass_fds=(self.occupied,),
                    preexec_fn=functools.partial(_end_with_parent, os.getpid()),
                )
            self.workers.append(process)

    def _watch(self) -> tuple[str, int]:
        """Waits for the end of an attempt.

        Returns:
          (FAILED, the worker), (SUCCEEDED, 0) once all workers have, or 0 beside CANCELLED, _OUT_OF_TIME, or _FORGOTTEN if
          somebody deleted the folder.
        """
        deadline = time.monotonic() + self.spec.options.hours * 3600
        while True:
            codes = {worker: process.poll() for worker, process in enumerate(self.workers)}
            if failed := [worker for worker, code in codes.items() if code]:
                # Of workers that ended together, one that is not worth a restart decides.
                return FAILED, min(failed, key=lambda worker: exits.worth_restarting(_code(self.workers[worker])))
            if None not in codes.values():
                return SUCCEEDED, 0
            if not os.fstat(self.occupied).st_nlink:
                return _FORGOTTEN, 0
            if self.folder.asked_to_cancel():
                return CANCELLED, 0
            if time.monotonic() > deadline:
                return _OUT_OF_TIME, 0
            time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        """Ends the workers that still run: SIGTERM, and SIGKILL after the grace period of a pod."""
        for process in self.workers:
            process.terminate()  # no effect on one that has ended
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self.workers:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _record(self, phase: str, reason: str = "", code: int | None = None) -> None:
        self.record.phase = phase
        self.record.exit_code = code
        if phase != RUNNING:  # while it runs again, the reason for the restart stays
            self.record.reason = reason
        self.record.workers = [process.pid for process in self.workers]
        self.folder.write(self.record)

    def _last_sentence(self, worker: int, attempt: int) -> str:
        """The last sentence of Convoy in a worker's log; empty if there is none."""
        with self.folder.open_log(worker, attempt) as log:
            lines = _tail(log).splitlines()
        sentences = (line.removeprefix("convoy: ") for line in reversed(lines) if line.startswith("convoy: "))
        return next(sentences, "").rstrip(".")


def _code(process: subprocess.Popen[bytes]) -> int:
    """The exit code as a container reports it: 128 and the number of the signal after a death by signal."""
    code = process.returncode
    return 128 - code if code < 0 else code


def _tail(file: BinaryIO, max_bytes: int = 1 << 16) -> str:
    file.seek(max(os.fstat(file.fileno()).st_size - max_bytes, 0))
    return file.read(max_bytes).decode(errors="replace")


def _end_with_parent(parent: int) -> None:
    """In a worker: has the kernel send it SIGTERM when the supervising process dies."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has died already
            os.kill(os.getpid(), signal.SIGTERM)


# Loaded before the fork, after which little is safe. Other systems than Linux have no such call.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(argv: list[str]) -> int:
    """Starts the supervising process in the background, and prints a warning for the person who submitted the job.

    The supervising process inherits the lock that shows that it lives (launch/targets/local/job_folder.py).
    """
    folder = JobFolder(argv[0])
    own_network, warning = network.decide(from_dict(folder.job()["spec"]))
    if warning:
        print(warning, flush=True)
    if os.fork():
        return exits.OK  # the submitting process would otherwise be the parent that has to wait for its end
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a reader of our output waits until stdout is closed
    try:
        if own_network:
            network.enter()
        Rehearsal(folder).run()
    except BaseException as error:
        record = folder.read()
        record.phase = FAILED
        record.exit_code = error.code if isinstance(error, exits.ConvoyError) else exits.BUG
        record.reason = (
            f"its supervising process failed ({type(error).__name__}: {error}); see {folder.path}/supervisor.log"
        )
        folder.write(record)
        raise
    return exits.OK


if __name__ == "__main__":
    entry.call(lambda: main(sys.argv[1:]))
