"""The record of a job under Slurm, in $XDG_STATE_HOME/convoy/slurm/NAME: Slurm itself forgets a job minutes after its end.

  job.json     what was submitted
  state.json   Slurm's number of it, and how it ended once that is known
  cancel       exists once somebody wants the job to end; its script starts it no more then
  ended        how its last start ended, by its script (script.py)
  slurm.log, logs/worker-N.attempt-M.log

Nodes write there, so all of them must see this folder. As on this machine (targets/local/job_folder.py), what stands in it is
checked, and no link in it is followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from convoy import exits, outside, shapes
from convoy.launch.targets.base import REPORT
from convoy.launch.targets.local.job_folder import JobFolder
from convoy.launch.targets.local.job_record import SUBMITTED, Record
from convoy.launch.targets.slurm import script

_JOB = {**SUBMITTED, "cluster": str, "comment": str, "title": str}
_STATE = {**REPORT, "number": str}
_NUMBER = re.compile(r"([1-9]\d{0,9}(_\d{1,7})?)?", re.ASCII)
_ENDED = re.compile(rf"(\d{{1,3}}) (\d{{1,9}}) ({'|'.join(script.WHYS)})\n?", re.ASCII)
_TAIL_BYTES = 1 << 16
_MAX_LOOKED_AT = 64  # logs, for the sentence of a worker that failed
_SAID = re.compile(r"Worker \d+ ended with exit code (\d{1,3})\.")


@dataclasses.dataclass
class SlurmRecord(Record):
    """state.json."""

    number: str = ""  # Slurm's, 33 or 28_3; empty until sbatch has answered


class Ended(NamedTuple):
    """What a script wrote at its end."""

    code: int
    attempt: int
    why: str  # one of script.WHYS


class SlurmFolder(JobFolder):
    """The folder of one job."""

    kind = "slurm"

    @staticmethod
    def check(job: dict[str, Any]) -> None:
        shapes.check(job, _JOB, "it")

    def read(self) -> SlurmRecord:
        return self._state(_read)

    def ended(self) -> Ended | None:
        """What its script wrote; None if that did not end for good, or wrote anything else."""
        with contextlib.suppress(OSError, exits.BadData), self._opened() as folder:
            with outside.open_file(script.ENDED, folder) as file:
                match = _ENDED.fullmatch(file.read(100).decode("ascii", "replace"))
            if match and int(match[1]) <= 255:
                return Ended(int(match[1]), int(match[2]), match[3])
        return None

    def sentence(self, workers: int) -> str:
        """Which worker ended its last start, and the last sentence of Convoy's in its log; empty if no log says it.

        Of workers that ended at once, one whose code is not worth a restart decides.
        """
        ends: list[tuple[bool, int, int, str]] = []
        for worker in range(min(workers, _MAX_LOOKED_AT)):
            with contextlib.suppress(exits.BadData):
                lines = self._tail(worker)
                codes = [int(match[1]) for line in lines if (match := _SAID.fullmatch(line))]
                if codes and codes[-1]:
                    sentences = [line.removeprefix("convoy: ") for line in lines if line.startswith("convoy: ")]
                    ends.append(
                        (exits.worth_restarting(codes[-1]), worker, codes[-1], (sentences or [""])[-1].rstrip("."))
                    )
        if not ends:
            return ""
        _, worker, code, said = min(ends)
        hint = f"`convoy launch logs --target=slurm --name={self.name} --worker={worker}` has what it said"
        return f"worker {worker} ended with exit code {code}: {outside.printable(said) or hint}"

    def _tail(self, worker: int) -> list[str]:
        attempt = self.last_attempt(worker)
        if attempt is None:
            return []
        with self.open_log(worker, attempt) as log:
            log.seek(max(os.fstat(log.fileno()).st_size - _TAIL_BYTES, 0))
            return log.read(_TAIL_BYTES).decode(errors="replace").splitlines()


def _read(values: Mapping[str, Any]) -> SlurmRecord:
    shapes.check(values, _STATE, "it")
    if not _NUMBER.fullmatch(values["number"]):
        raise exits.BadData(f"it has {outside.printable(values['number'][:60])!r} in the place of a job's number")
    return SlurmRecord(**{key: values[key] for key in _STATE})
