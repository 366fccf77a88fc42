"""The state of a job under Slurm: what Slurm says while it knows it, then what its script wrote.

    PENDING; REQUEUED, REQUEUE_HOLD, SPECIAL_EXIT     pending, or restarting once it ran; with the reason
    CONFIGURING RUNNING COMPLETING SUSPENDED ...      running
    COMPLETED                                         succeeded
    CANCELLED                                         cancelled
    FAILED                                            failed, with the code of its script
    TIMEOUT NODE_FAIL PREEMPTED OUT_OF_MEMORY ...     failed, 42: submitting it again goes on
    not known to Slurm                                as its script wrote at its end; else cancelled, or failed with 42

An end is kept in the job's folder, and Slurm is not asked again.
"""

from __future__ import annotations

from typing import Any

from convoy import exits
from convoy.launch.targets.base import CANCELLED, ENDS, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED
from convoy.launch.targets.slurm import api, reasons, script
from convoy.launch.targets.slurm.folder import Ended, SlurmFolder, SlurmRecord

_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
LEAVES = "its processes leave"
_RUNS = {
    "RUNNING": "",
    "CONFIGURING": "its nodes are made ready",
    "COMPLETING": LEAVES,
    "SUSPENDED": "Slurm has suspended it",
    "STOPPED": "Slurm has stopped it",
    "RESIZING": "",
    "SIGNALING": "",
    "STAGE_OUT": "its files are copied",
}
_AGAIN = "submit it again to go on"


def look(folder: SlurmFolder, job: dict[str, Any], record: SlurmRecord) -> SlurmRecord:
    """The record as it is now, which is written if that is an end.

    Raises:
      exits.ConvoyError: Slurm does not answer, or with what no Slurm says.
    """
    if record.phase in ENDS or not record.number:
        return record
    try:
        now = api.job(record.number)
        if now["JobName"] != job["title"] and now.get("Comment") != job["comment"]:
            raise api.NoJob("that number is another job's now.")
    except api.NoJob:
        _forgotten(folder, job, record)
    else:
        _known(folder, job, record, now)
    if record.phase in ENDS:
        folder.write(record)
    return record


def _known(folder: SlurmFolder, job: dict[str, Any], record: SlurmRecord, now: dict[str, Any]) -> None:
    state = now["JobState"]
    record.restarts = now["Restarts"]
    record.reason, record.exit_code = "", None
    workers = job["spec"]["options"]["workers"]
    if state in _WAITS:
        record.phase = RESTARTING if record.restarts else PENDING
        record.reason = reasons.waiting(now["Reason"])
        if record.restarts and (said := folder.sentence(workers)):
            record.reason += f"; {said}"
    elif state in _RUNS:
        record.phase, record.reason = RUNNING, _RUNS[state]
    elif state == "COMPLETED":
        record.phase, record.exit_code = SUCCEEDED, exits.OK
    elif state == "CANCELLED":
        record.phase, record.reason = CANCELLED, folder.sentence(workers)
    elif state == "FAILED":
        code, number = [*now["ExitCode"], 0, 0][:2]
        _failed(folder, record, workers, code or 128 + number, folder.ended())
    else:
        record.phase, record.exit_code = FAILED, exits.TRY_AGAIN
        record.reason = f"{reasons.ending(state)}; {_AGAIN}"


def _forgotten(folder: SlurmFolder, job: dict[str, Any], record: SlurmRecord) -> None:
    """Of a job that has left Slurm's memory; its script may have written how it ended."""
    ended = folder.ended()
    workers = job["spec"]["options"]["workers"]
    if ended is not None:
        record.restarts = ended.attempt
        if ended.code == exits.OK:
            record.phase, record.reason, record.exit_code = SUCCEEDED, "", exits.OK
        elif ended.why == script.STOPPED:
            record.phase, record.reason, record.exit_code = CANCELLED, folder.sentence(workers), None
        else:
            _failed(folder, record, workers, ended.code, ended)
    elif (began := folder.last_attempt(0) is not None) and not folder.asked_to_cancel():
        record.phase, record.exit_code = FAILED, exits.TRY_AGAIN
        record.reason = f"Slurm no longer knows it, and its script wrote no end: its first node was lost; {_AGAIN}"
    else:
        record.phase, record.exit_code = CANCELLED, None
        record.reason = "" if began else "it left the queue before it began"


def _failed(folder: SlurmFolder, record: SlurmRecord, workers: int, code: int, ended: Ended | None) -> None:
    record.phase, record.exit_code = FAILED, code
    said = folder.sentence(workers)
    if ended is None and not said:
        said = (
            f"it wrote nothing: its first node does not see {folder.path}, which all nodes and this machine must share"
        )
    elif not said:
        said = f"{folder.path}/{script.LOG} may say why"
    if ended and ended.why == script.EXHAUSTED:
        said = f"no restart is left of {ended.attempt}; {said}"
    elif ended and ended.why == script.REFUSED:
        said = f"Slurm refused to queue it again ({folder.path}/{script.LOG} has its words); {_AGAIN}; {said}"
    record.reason = said
