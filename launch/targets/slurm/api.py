"""Slurm's commands, and what they print, which is from outside: bounded, checked, and errors turned into sentences."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from convoy import exits, shapes
from convoy.bounds import whole
from convoy.launch import shell
from convoy.outside import printable

PROGRAMS = ("sbatch", "scontrol", "squeue", "scancel", "srun", "sinfo")
MAX_BYTES = 8 << 20  # of an answer
ANSWER_SECONDS = 60.0
# What Slurm's commands need of this shell. SBATCH_* and SLURM_* of it would override the script's own options.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "SLURM_CONF", "LD_LIBRARY_PATH")
_FIELD = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z0-9:/_]*)=(\S*)")
_JOB_ID = re.compile(r"([1-9]\d{0,9})(?:;.*)?", re.ASCII)
_JOB = {
    "JobState": str,
    "Reason": str,
    "Restarts": whole(0, 1 << 31),
    "ExitCode": [whole(0, 255)],
    "Comment?": str,
    "JobName": str,
}
_NO_SUCH_NODES = "Requested node configuration is not available"
_UP = frozenset(("idle", "allocated", "mixed", "completing", "planned", "reserved"))
_NOT_THERE = ("Invalid job id specified", "not found")
_AWAY = ("Unable to contact slurm controller", "Socket timed out", "Connection refused", "Connection timed out")


class NoJob(exits.CannotRun):
    """Slurm does not know the job, or no longer."""


def run(
    program: str, *argv: str, text: str = "", variables: Iterable[str] = (), seconds: float = ANSWER_SECONDS
) -> str:
    """What a command of Slurm's printed on stdout, and for sbatch --test-only on stderr.

    Args:
      text: its stdin.
      variables: names of variables of this shell that it sees besides what Slurm needs.
      seconds: for its answer.

    Raises:
      exits.CannotRun: it is not installed, or refuses: a sentence with its words.
      exits.TryAgain: the controller does not answer.
    """
    path = shutil.which(program)
    if path is None:
        raise exits.CannotRun(
            f"there is no {program} here; run this on a login node of the cluster, where Slurm's commands are installed."
        )
    names = {*_KEPT, *variables}
    own = {name: value for name, value in os.environ.items() if name in names}
    command = shell.line([program, *argv])
    try:
        done = subprocess.run(
            [path, *argv],
            input=text.encode(errors="surrogateescape"),
            env=own,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise exits.TryAgain(f"`{command}` gave no answer within {seconds:g} s; try it again.") from None
    except OSError as error:
        raise exits.CannotRun(f"cannot run {path}: {exits.reason(error)}.") from error
    if len(done.stdout) > MAX_BYTES:
        raise exits.BadData(f"`{command}` printed more than {MAX_BYTES:,} bytes; something else than Slurm answers.")
    errors = done.stderr[:4096].decode(errors="replace")
    if done.returncode:
        raise _error(command, errors)
    return done.stdout.decode(errors="replace")


def _error(command: str, errors: str) -> exits.ConvoyError:
    """The sentence for a command that failed."""
    lines = [re.sub(r"^\w+: (error|fatal): ", "", line).strip() for line in errors.splitlines() if line.strip()]
    said = printable("; ".join(lines)[:500]) or "no reason given"
    if any(words in errors for words in _NOT_THERE):
        return NoJob(f"Slurm does not know this job, or no longer (`{command}`: {said}).")
    if "munge" in errors.lower():
        return exits.CannotRun(
            f"munge, which authenticates this user to Slurm, does not answer ({said}); whoever runs this machine starts munged."
        )
    if any(words in errors for words in _AWAY):
        return exits.TryAgain(f"Slurm's controller does not answer (`{command}`: {said}); try it again.")
    if "configuration source" in errors or "fetch config" in errors:
        return exits.CannotRun(
            f"this machine belongs to no cluster ({said}); run this on a login node, or set SLURM_CONF to its file."
        )
    return exits.CannotRun(f"Slurm refuses `{command}`: {said}.")


def check(script: str, partition: str, variables: Sequence[str] = ()) -> None:
    """Raises exits.CannotRun if Slurm would never start a script's job, which sbatch itself may take.

    sbatch says the same of a job that waits for nodes which are down or drained: then nothing is raised.
    """
    try:
        run("sbatch", "--test-only", text=script, variables=variables)
    except exits.CannotRun as error:
        if _NO_SUCH_NODES not in str(error):
            raise
        asked = [f"--partition={partition}"] if partition else []
        states = run("sinfo", "--noheader", "--format=%T", *asked).split()
        if set(states) <= _UP:
            raise


def submit(script: str, variables: Sequence[str] = ()) -> str:
    """Has sbatch take a script, and returns the job's number.

    Raises as `run`, and exits.BadData for an answer that is no number.
    """
    answer = run("sbatch", "--parsable", text=script, variables=variables)
    match = _JOB_ID.fullmatch(answer.strip())
    if not match:
        raise exits.BadData(
            f"sbatch answered {printable(answer[:200])!r} in place of a job's number; look with `squeue --me`."
        )
    return match[1]


def job(number: str) -> dict[str, Any]:
    """The fields of a job, or of a task of an array (28_3), that _JOB names.

    Raises:
      NoJob: Slurm does not know it, or no longer.
      exits.BadData: fields that no job has.
    """
    line = run("scontrol", "--oneliner", "show", "job", number).split("\n", 1)[0]
    fields = parse(line)
    values: dict[str, Any] = {
        name: fields[name] for name in ("JobState", "Reason", "JobName", "Comment") if name in fields
    }
    for name, text in (("Restarts", fields.get("Restarts")), ("ExitCode", fields.get("ExitCode"))):
        if text is not None and re.fullmatch(r"\d{1,9}(:\d{1,9})?", text, re.ASCII):
            numbers = [int(part) for part in text.split(":")]
            values[name] = numbers if name == "ExitCode" else numbers[0]
    return shapes.check(values, _JOB, f"what `scontrol show job {number}` prints")


def parse(line: str) -> dict[str, str]:
    """A line of scontrol --oneliner: the first value of each name."""
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(line[:MAX_BYTES]):
        fields.setdefault(name, value)
    return fields


def by_comment(comment: str) -> str:
    """The number of the user's newest job, waiting or running, that has a comment; empty for none."""
    lines = run("squeue", "--me", "--noheader", "--format=%A|%F|%k").splitlines()
    numbers = []
    for fields in (line.strip().split("|", 2) for line in lines):
        if len(fields) == 3 and fields[2] == comment and _JOB_ID.fullmatch(fields[1]):
            numbers.append(int(fields[1]))
    return str(max(numbers)) if numbers else ""


def configuration() -> dict[str, str]:
    """The settings that `scontrol show config` prints."""
    lines = run("scontrol", "show", "config").splitlines()
    pairs = (line.split("=", 1) for line in lines[:10_000] if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}
