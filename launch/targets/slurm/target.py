"""Jobs of a cluster under Slurm, by its own commands: sbatch, scontrol, squeue, scancel. Where they run is a login node."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convoy import exits
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
from convoy.launch.targets.local import job_folder, logs
from convoy.launch.targets.slurm import api, request, script, status
from convoy.launch.targets.slurm.folder import SlurmFolder, SlurmRecord
from convoy.launch.targets.slurm.options import SlurmOptions

# Beyond KillWait, for Slurm to notice that the last process of a job is gone.
MARGIN_SECONDS = 60.0
KILL_WAIT_SECONDS = 30.0  # Slurm's default


class SlurmTarget:
    """See convoy.launch.targets.base.Target."""

    poll_seconds = 5.0

    def submit(self, spec: JobSpec, replace: bool = False) -> JobState:
        return self.submit_many([spec], 0, replace)[0]

    def submit_many(self, specs: Sequence[JobSpec], at_once: int, replace: bool = False) -> list[JobState]:
        """As `submit`, of jobs that differ in name and run alone: those that have to begin become one array.

        Args:
          at_once: how many of them may run at the same time; 0: no array, of one job.
        """
        with job_folder.changing(SlurmFolder.kind):
            waiting = [spec for spec in specs if self._is_to_begin(spec, replace)]
            if waiting:
                self._begin(waiting, at_once)
        return [self.state(spec.name) for spec in specs]

    def _is_to_begin(self, spec: JobSpec, replace: bool) -> bool:
        """Whether a job has to be submitted; CannotRun if its name is another's, and not to be replaced."""
        folder = SlurmFolder(spec.name)
        if not folder.exists():
            return True
        now = state_or_failed(self.state, spec.name)
        same = (now.digest, now.run_dir) == (spec.digest, _run_dir(spec))
        if same and now.phase not in (FAILED, CANCELLED):
            return False
        if not same and not replace:
            raise exits.CannotRun(
                f"--name={spec.name} is another job, which {'has ' if now.phase in ENDS else 'is '}{now.phase}; give --replace"
                " to end and forget that one, or another --name."
            )
        return True

    def _begin(self, specs: Sequence[JobSpec], at_once: int) -> None:
        folders = [SlurmFolder(spec.name) for spec in specs]
        text = render(specs, at_once)
        variables = [name for name in specs[0].options.narrowed(SlurmOptions).env.split(",") if name]
        if missing := [name for name in variables if name not in os.environ]:
            raise exits.CannotRun(
                f"--env={','.join(variables)}: {missing[0]} is not set in this shell; set it or leave it out."
            )
        # What Slurm refuses costs no other job its place.
        api.check(text, specs[0].options.narrowed(SlurmOptions).partition, variables)
        comment, title = request.asked_in(text, "comment"), request.asked_in(text, "job-name")
        cluster = self.cluster
        for spec, folder in zip(specs, folders, strict=True):
            if folder.exists():
                self.cancel(spec.name)
            if os.path.lexists(folder.path):
                folder.remove()
            os.close(folder.create(_submission(spec, cluster, comment, title), SlurmRecord(PENDING, begun=time.time())))
        try:
            number = api.submit(text, variables)
        except exits.CannotRun:
            for folder in folders:
                folder.remove()
            raise
        for index, folder in enumerate(folders):
            self._number(folder, f"{number}_{index}" if at_once else number)

    @staticmethod
    def _number(folder: SlurmFolder, number: str) -> None:
        record = folder.read()
        record.number = number
        folder.write(record)

    @functools.cached_property
    def cluster(self) -> str:
        """The name of the cluster."""
        return self._configuration.get("ClusterName", "")

    @functools.cached_property
    def _configuration(self) -> dict[str, str]:
        return api.configuration()

    @property
    def _kill_wait(self) -> float:
        word = self._configuration.get("KillWait", "").split(" ")[0]
        return float(word) if word.isdecimal() and len(word) < 6 else KILL_WAIT_SECONDS

    def state(self, name: str) -> JobState:
        folder = _existing(name)
        try:
            record, job = folder.read(), folder.job()
        except FileNotFoundError:  # removed meanwhile
            raise _unknown(name) from None
        if record.phase not in ENDS:
            if self.cluster != job["cluster"]:
                raise exits.CannotRun(
                    f"{name} is a job of the cluster {job['cluster']}, and this machine is of {self.cluster}; ask there."
                )
            if not record.number:
                self._lost_answer(folder, job, record)
            record = status.look(folder, job, record)
        values = {
            field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "number"
        }
        for key in ("supervisor", "workers"):
            del values[key]
        return JobState(name, digest=job["digest"], run_dir=job["run_dir"], **values)

    @staticmethod
    def _lost_answer(folder: SlurmFolder, job: dict[str, Any], record: SlurmRecord) -> None:
        """Gives the record the number of a job whose submission was cut off before sbatch's answer was written."""
        record.number = api.by_comment(job["comment"])
        if record.number:
            folder.write(record)
        else:
            record.phase, record.exit_code = FAILED, exits.TRY_AGAIN
            record.reason = "it was never begun; submit it again"

    def jobs(self) -> list[JobState]:
        states = []
        for folder in job_folder.folders(SlurmFolder):
            try:
                states.append(state_or_failed(self.state, folder.name))
            except NoSuchJob:  # removed meanwhile
                continue
            except exits.CannotRun as error:  # of another cluster
                states.append(JobState(folder.name, RUNNING, str(error)))
        return states

    def logs(self, name: str, worker: int, follow: bool) -> Iterator[str]:
        folder = _existing(name)
        try:
            workers = folder.job()["spec"]["options"]["workers"]
        except FileNotFoundError:
            raise _unknown(name) from None
        check_worker(worker, name, workers)
        return logs.lines(folder, worker, follow, lambda: self.state(name).phase in ENDS, self.poll_seconds)

    def cancel(self, name: str) -> JobState:
        """As Target.cancel: the run gets SIGTERM, and Slurm's KillWait to save and leave."""
        folder = _existing(name)
        now = state_or_failed(self.state, name)
        if now.phase in ENDS:
            return now
        folder.ask_to_cancel()
        deadline = time.monotonic() + self._kill_wait + MARGIN_SECONDS
        while (now := state_or_failed(self.state, name)).phase not in ENDS:
            record = folder.read()
            # Again as long as it waits: a script that had decided just before may have queued it again.
            if now.reason != status.LEAVES:
                with contextlib.suppress(api.NoJob):
                    api.run("scancel", record.number)
            if time.monotonic() > deadline:
                raise exits.TryAgain(
                    f"{name} has not ended; `squeue --jobs={record.number}` may say why. Try it again."
                )
            time.sleep(min(self.poll_seconds, 1.0))
        return now

    def remove(self, name: str) -> None:
        with job_folder.changing(SlurmFolder.kind):
            if (now := state_or_failed(self.state, name)).phase not in ENDS:
                raise exits.CannotRun(
                    f"{name} is {now.phase}; `convoy launch cancel --target=slurm --name={name}` ends it."
                )
            SlurmFolder(name).remove()

    def describe(self, spec: JobSpec) -> str:
        return render([spec]).rstrip("\n")

    def describe_many(self, specs: Sequence[JobSpec], at_once: int) -> str:
        return render(specs, at_once).rstrip("\n")


def render(specs: Sequence[JobSpec], at_once: int = 0) -> str:
    """The script of a job, or of an array, as `submit` gives it to sbatch when it is called in this directory."""
    absolute = [dataclasses.replace(spec, run=dataclasses.replace(spec.run, run_dir=_run_dir(spec))) for spec in specs]
    return script.render(absolute, [SlurmFolder(spec.name).path for spec in specs], Path.cwd(), at_once)


def _existing(name: str) -> SlurmFolder:
    folder = SlurmFolder(name)
    if not folder.exists():
        raise _unknown(name)
    return folder


def _unknown(name: str) -> NoSuchJob:
    return NoSuchJob(f"there is no job {name} here; `convoy launch list --target=slurm` lists what there is.")


def _submission(spec: JobSpec, cluster: str, comment: str, title: str) -> dict[str, Any]:
    """The content of a job's job.json."""
    return {
        "spec": spec.to_dict(),
        "digest": spec.digest,
        "run_dir": _run_dir(spec),
        "cluster": cluster,
        "comment": comment,
        "title": title,  # Slurm's name of it, which the jobs of an array share
    }


def _run_dir(spec: JobSpec) -> str:
    """The run directory as an absolute path: a node begins in a directory of its own."""
    run_dir = spec.run.run_dir
    return run_dir if "://" in run_dir else str(Path(run_dir).expanduser().absolute())
