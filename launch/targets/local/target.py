"""This machine as a place for jobs: a rehearsal, with the policy of a cluster (rehearsal.py)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convoy import exits, supervise
from convoy.launch import shell
from convoy.launch.job import JobSpec
from convoy.launch.targets.base import (
    CANCELLED,
    ENDS,
    FAILED,
    PENDING,
    RUNNING,
    JobState,
    NoSuchJob,
    check_worker,
    state_or_failed,
)
from convoy.launch.targets.local import faults, job_folder, logs, pod, rehearsal
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.job_record import Record
from convoy.launch.targets.names import TARGETS

# Beyond the grace of the workers, for the supervising process to notice and to write.
_MARGIN_SECONDS = 30.0


class LocalTarget:
    """See convoy.launch.targets.base.Target. `chaos` are faults to rehearse, as launch/targets/local/faults.py reads them."""

    poll_seconds = rehearsal.POLL_SECONDS

    def __init__(self, chaos: str = ""):
        self.chaos = chaos

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        folder = JobFolder(spec.name)
        faults.parse(self.chaos, spec.workers)
        with job_folder.changing():
            if folder.exists():
                now = state_or_failed(self.state, spec.name)
                same = (now.digest, now.run_dir) == (spec.digest, _absolute(spec))
                again = same and now.phase in (FAILED, CANCELLED)
                # A person who asks for faults wants to see them, not the result of the job without them.
                if same and not again and self.chaos in ("", folder.chaos()):
                    return now
                if not again and not replace:
                    raise exits.CannotRun(
                        f"--name={spec.name} is another job, which {'has ' if now.phase in ENDS else 'is '}{now.phase}; give"
                        " --replace to end and forget that one, or another --name."
                    )
                self.cancel(spec.name)
            if os.path.lexists(folder.path):
                folder.remove()
            warning = _start(folder, folder.create(submission(spec, self.chaos), Record(PENDING, begun=time.time())))
        if warning:
            print(f"convoy: {warning}", file=sys.stderr, flush=True)
        return self.state(spec.name)

    def state(self, name: str) -> JobState:
        folder = _existing(name)
        try:
            record, submitted = folder.read(), folder.job()
        except FileNotFoundError:  # removed meanwhile
            raise _unknown(name) from None
        except exits.BadData as error:  # damaged by a power cut, of another version, or a stranger's
            if not folder.supervised():
                raise
            return JobState(name, RUNNING, str(error))
        if record.phase not in ENDS and not folder.supervised():
            record = folder.read()  # it may have ended just now
            if record.phase not in ENDS:
                record.phase = FAILED
                record.exit_code = exits.TRY_AGAIN
                record.reason = (
                    f"its supervising process {record.supervisor} is gone (killed, or a full disk), and its workers leave"
                    if record.supervisor
                    else "it was never begun"
                ) + "; submit it again to go on"
        return JobState(
            name,
            record.phase,
            record.reason,
            record.restarts,
            submitted["digest"],
            submitted["run_dir"],
            record.exit_code,
            record.begun,
        )

    def jobs(self) -> list[JobState]:
        states = []
        for folder in job_folder.folders(JobFolder):
            with contextlib.suppress(NoSuchJob):  # removed meanwhile
                states.append(state_or_failed(self.state, folder.name))
        return states

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        folder = _existing(name)
        try:
            workers = folder.job()["spec"]["options"]["workers"]
        except FileNotFoundError:  # removed meanwhile
            raise _unknown(name) from None
        check_worker(worker, name, workers)
        yield from logs.lines(folder, worker, follow, lambda: self.state(name).phase in ENDS, self.poll_seconds)

    def cancel(self, name: str) -> JobState:
        folder = _existing(name)
        deadline = time.monotonic() + rehearsal.GRACE_SECONDS + _MARGIN_SECONDS
        while (now := state_or_failed(self.state, name)).phase not in ENDS:
            folder.ask_to_cancel()
            if time.monotonic() > deadline:
                raise exits.TryAgain(f"{name} has not ended; {folder.path}/supervisor.log may say why. Try it again.")
            time.sleep(self.poll_seconds)
        return now

    def remove(self, name: str) -> None:
        with job_folder.changing():
            if (now := state_or_failed(self.state, name)).phase not in ENDS:
                raise exits.CannotRun(f"{name} is {now.phase}; `convoy launch cancel --name={name}` ends it.")
            JobFolder(name).remove()

    def describe(self, spec: JobSpec) -> str:
        lines = [f"# {spec.name}: this on this machine, and at most {rehearsal.most_restarts(spec)} restarts"]
        ports = [f"PORT{worker}" for worker in range(spec.workers)]
        for own in pod.environments(spec, 0, ports, faults.parse(self.chaos, spec.workers)):
            lines.append(shell.line([*(f"{name}={value}" for name, value in own.items()), *pod.command(spec)]))
        return "\n".join(lines)


def _existing(name: str) -> JobFolder:
    folder = JobFolder(name)
    if not folder.exists():
        raise _unknown(name)
    return folder


def _elsewhere() -> str:
    return " or ".join(name for name in TARGETS if name != "local")


def _unknown(name: str) -> NoSuchJob:
    return NoSuchJob(
        f"there is no job {name} on this machine; `convoy launch list` says which there are, and --target={_elsewhere()}"
        " looks elsewhere."
    )


def submission(spec: JobSpec, chaos: str) -> dict[str, Any]:
    """The content of a job's job.json."""
    return {
        "spec": spec.to_dict(),
        "digest": spec.digest,
        "run_dir": _absolute(spec),
        "chaos": chaos,
        "id": uuid.uuid4().hex,  # of this submission
    }


def _start(folder: JobFolder, lock: int) -> str:
    """Starts the supervising process, which outlives this one and its terminal, and passes the lock on to it.

    Returns its warning, or an empty text.
    """
    try:
        with folder.new_supervisor_log() as log:
            started = subprocess.run(
                supervise.module("convoy.launch.targets.local.rehearsal", [folder.name]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
                check=False,
            )
    finally:
        os.close(lock)
    if started.returncode:
        raise exits.CannotRun(
            f"the supervising process of {folder.name} did not start; see {folder.path}/supervisor.log."
        )
    return started.stdout.decode().strip()


def _absolute(spec: JobSpec) -> str:
    """The run directory as an absolute path: other commands may run in another directory."""
    run_dir = spec.run.run_dir
    return run_dir if "://" in run_dir else str(Path(run_dir).expanduser().absolute())
