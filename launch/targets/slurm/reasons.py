"""Why a job waits, or how it ended: the words of Slurm as sentences."""

from __future__ import annotations

from convoy.outside import printable

_WAITING = {
    "None": "Slurm has not looked at it yet",
    "Priority": "jobs of a higher priority are before it",
    "Resources": "no nodes are free for it yet",
    "BeginTime": "Slurm lets about two minutes pass before a job begins again",
    "Cleaning": "its last start is being cleaned up",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job that it waits for has failed, so it never begins; cancel it",
    "JobArrayTaskLimit": "as many jobs of its sweep run as --max_parallel allows",
    "JobHeldUser": "you hold it; `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it; ask why",
    "PartitionDown": "its partition is down; ask when it comes back, or give another --partition",
    "PartitionInactive": "its partition is inactive; ask when it comes back, or give another --partition",
    "PartitionNodeLimit": "the partition never gives so many nodes; cancel it and give fewer --workers or another --partition",
    "PartitionConfig": "the partition cannot hold such a job; cancel it and give fewer --workers or another --partition",
    "PartitionTimeLimit": "the partition allows no job so long; cancel it and give fewer --hours: it goes on in the next start",
    "BadConstraints": "no node can ever be what it asks for; cancel it, `sinfo -o '%P %D %c %m %G'` lists what nodes have",
    "InvalidAccount": "your account is not known there; cancel it and give another --account",
    "InvalidQOS": "its quality of service is not known there; cancel it and give another --qos",
    "Reservation": "its reservation has not begun",
    "ReservationDeleted": "its reservation is gone; cancel it and leave --reservation out",
    "NodeDown": "a node that it needs is down",
    "Licenses": "it waits for a license",
    "QOSNotAllowed": "its quality of service is not allowed in that partition; cancel it and give another --qos",
}
_BEGINNINGS = {
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved for maintenance",
    "QOSMax": "a limit of its quality of service is used up",
    "QOSGrp": "a limit of its quality of service, for all its users, is used up",
    "QOSMin": "its quality of service wants larger jobs",
    "AssocMax": "a limit of your account is used up",
    "AssocGrp": "a limit of your account, for all its users, is used up",
    "MaxGRESPer": "your limit of GPUs is used up",
    "launch_failed": "a node could not start it, and Slurm holds it; ask why, `scontrol release` lets it try again",
    "job_requeued_in_held_state": "it was queued again and is held; `scontrol release` lets it go",
}
_ENDS = {
    "TIMEOUT": "it reached its time limit before it had saved",
    "NODE_FAIL": "a node of it failed",
    "BOOT_FAIL": "a node of it did not start",
    "PREEMPTED": "a job of a higher priority took its nodes",
    "OUT_OF_MEMORY": "it used more memory than it asked for; give more --memory",
    "DEADLINE": "its deadline passed",
    "REVOKED": "another cluster runs it",
}


def waiting(reason: str) -> str:
    """A Reason of a job that waits -> a clause. One that is not known here stands in it as Slurm has it."""
    word = reason.split(",")[0].strip("()")
    if known := _WAITING.get(word):
        return known
    for beginning, meaning in _BEGINNINGS.items():
        if word.startswith(beginning):
            return f"{meaning} ({printable(reason[:200])})"
    return f"Slurm says {printable(reason[:200])}"


def ending(state: str) -> str:
    """A JobState that is an end by Slurm -> a clause."""
    return _ENDS.get(state, f"Slurm says {printable(state[:40])}")
