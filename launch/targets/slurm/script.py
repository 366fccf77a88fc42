"""A job -> the script that sbatch takes. A pure function of the job, the folder for its logs and the directory it runs in.

Options of Slurm stand in #SBATCH lines, where no shell reads them: names there are checked (options.py). All else is a word of
bash, quoted. The script outlives SIGTERM, and decides at its end whether the job begins again:

- Workers show srun an exit code that sorts: 0, then 42, then deaths by a signal, then ends for good, as srun tells only the
  largest. A crash beside a worker that saved ends the job.
- A code that is worth a restart requeues the job. Slurm itself takes no notice of it.
- After a SIGTERM it does so only at the time limit: a job that was cancelled has saved and ended with 42 too.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from convoy import exits
from convoy.launch.job import JobSpec
from convoy.launch.targets.slurm import request

ENDED = "ended"  # the file in a job's folder that the script writes at its last end: CODE ATTEMPT WHY
CANCEL = "cancel"  # the file that forbids another start
LOG = "slurm.log"
STOPPED, EXHAUSTED, REFUSED, OVER = "stopped", "exhausted", "refused", "over"
WHYS = (STOPPED, EXHAUSTED, REFUSED, OVER)
# What a task shows srun for a code that is not worth a restart; the last is for every code of nobody's.
SHOWN_OTHER = 240
SHOWN = {
    exits.BUG: 241,
    exits.USAGE: 242,
    exits.BAD_DATA: 243,
    exits.DIVERGED: 244,
    exits.CANNOT_RUN: 245,
    exits.STOPPED: 246,
}
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./+@,=:~")


def render(specs: Sequence[JobSpec], folders: Sequence[Path], directory: Path, at_once: int = 0) -> str:
    """The script of one job, or of an array of jobs that differ in nothing but name and run.

    Args:
      folders: of each job, on a file system that all nodes see.
      directory: in which the workers run.
      at_once: how many jobs of an array may run at the same time; 0: of one job.

    Raises:
      exits.CannotRun: a path that Slurm would read as something else.
    """
    first = specs[0]
    own = request.own_options(first)
    head = [
        "#!/bin/bash -l" if own.modules else "#!/bin/bash",
        *(f"#SBATCH --{option}" for option in request.options(specs, at_once)),
        "# Written by `convoy launch`.",
        *_jobs(specs, folders, bool(at_once)),
    ]
    begin = _BEGIN.format(
        log=LOG,
        ended=ENDED,
        cancel=CANCEL,
        directory=quoted(str(directory)),
        limit=first.options.max_restarts,
        workers=first.workers,
        modules=_modules(own.modules),
    )
    task = quoted(_TASK.format(cases=_shown(), other=SHOWN_OTHER))
    run = _RUN.format(srun=_srun(first), command=_command(first), task=task, cases=_meant(), other=SHOWN_OTHER)
    return "\n".join([*head, begin, run, _END.format(cancel=CANCEL), ""])


def python(spec: JobSpec) -> str:
    """The Python of a worker."""
    own = request.own_options(spec)
    return own.python or ("python" if own.apptainer else sys.executable)


def quoted(word: str) -> str:
    """A word as bash reads it back, whatever is in it."""
    if "\0" in word:
        raise exits.CannotRun(f"{word!r} has a NUL character, which no word of a shell can hold; take it out.")
    return shlex.quote(word)


def check_path(path: Path) -> None:
    """CannotRun for a path that srun's --output would read as a pattern, or a person as two words."""
    if odd := sorted(set(str(path)) - _SAFE):
        raise exits.CannotRun(
            f"{str(path)!r} has {' '.join(map(repr, odd))} in it, and Slurm reads paths of logs as patterns; set"
            " XDG_STATE_HOME to a folder, shared by all nodes, whose path has letters, digits and ._-+@,=:~ alone."
        )


def _jobs(specs: Sequence[JobSpec], folders: Sequence[Path], array: bool) -> Iterable[str]:
    """The variables of the job, or of each job of an array."""
    for number, (spec, folder) in enumerate(zip(specs, folders, strict=True)):
        check_path(folder)
        flags = " ".join(map(quoted, spec.train_flags))
        words = f"job={quoted(spec.name)} folder={quoted(str(folder))} flags=({flags})"
        if array:
            yield ("case $SLURM_ARRAY_TASK_ID in\n" if number == 0 else "") + f"{number}) {words} ;;"
        else:
            yield words
    if array:
        yield "*) exit 78 ;;\nesac"


def _modules(text: str) -> str:
    return "".join(f"module load {quoted(name)} || leave 78 {OVER}\n" for name in filter(None, text.split(",")))


def _srun(spec: JobSpec) -> str:
    words = [
        "srun",
        f"--nodes={spec.workers}",
        f"--ntasks={spec.workers}",
        "--kill-on-bad-exit=1",
        "--wait=0",
        "--export=ALL",
    ]
    # Since 22.05 a step no longer takes its cores from what sbatch was asked.
    words += [f"--cpus-per-task={request.cpus(spec)}"] if request.cpus(spec) else []
    return " ".join([*words, "--cpu-bind=none", "--mpi=none", "--open-mode=append"])


def _command(spec: JobSpec) -> str:
    image = request.own_options(spec).apptainer
    words = (
        ["apptainer", "exec", *(["--nv"] if request.gpus(spec.options, spec.accelerator) else []), image]
        if image
        else []
    )
    return " ".join(map(quoted, [*words, python(spec), "-P", "-m", "convoy.launch.worker", "--"]))


def _shown() -> str:
    """Cases of bash: from a worker's code to what srun is shown."""
    return " ".join(f"{code}) code={shown} ;;" for code, shown in SHOWN.items())


def _meant() -> str:
    """Cases of bash: from what srun was shown to the worker's code."""
    return " ".join(f"{shown}) code={code} ;;" for code, shown in SHOWN.items())


_BEGIN = """\
export PATH  # bash has one where Slurm gave none
attempt=${{SLURM_RESTART_COUNT:-0}}
id=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}; id=${{id:-$SLURM_JOB_ID}}
leave() {{
  printf '%s %s %s\\n' "$1" "$attempt" "$2" >"$folder/{ended}.partial" && mv -f "$folder/{ended}.partial" "$folder/{ended}"
  exit "$1"
}}
mkdir -p "$folder/logs" && exec >>"$folder/{log}" 2>&1 || exit 78
rm -f "$folder/{ended}"
stopped=; trap 'stopped=1' TERM  # outlives scancel and the time limit, and decides below
echo "Job $id, start $attempt, on $SLURM_JOB_NODELIST."
cd -- {directory} || leave 78 over
{modules}grace=$(scontrol show config | sed -n 's/^KillWait *= *\\([0-9]*\\) .*/\\1/p')
export CONVOY_JOB=$job CONVOY_WORKERS={workers} CONVOY_GRACE_SECONDS=${{grace:-30}}
limit={limit}
if [ -e "$folder/{cancel}" ]; then leave 42 stopped; fi
if [ "$attempt" -gt $limit ]; then leave 42 exhausted; fi"""

# Signals, which bash and srun report as 128 and above, stay as they are; 240 and above is ours alone.
_TASK = """\
trap : TERM  # this shell is signalled too
mkdir -p "$1/logs"; shift
"$@"; code=$?
echo "Worker $SLURM_PROCID ended with exit code $code."
case $code in {cases} 0 | 42 | 12[89] | 1[3-9]?) ;; *) code={other} ;; esac
exit $code"""

_RUN = """\
{srun} --output="$folder/logs/worker-%t.attempt-$attempt.log" bash -c {task} task "$folder" \\
  {command} "${{flags[@]}}"
code=$?
case $code in {cases} {other}) code=1 ;; 0 | 42 | 12[89] | 1[3-9]?) ;; *) code=78 ;; esac"""

_END = """\
if [ $code != 42 ] && {{ [ $code -lt 128 ] || [ $code = 130 ]; }}; then leave $code over; fi
if [ -e "$folder/{cancel}" ]; then leave $code stopped; fi
if [ -n "$stopped" ] && ! scontrol show job "$id" | grep -q Reason=TimeLimit; then leave $code stopped; fi
if [ "$attempt" -ge $limit ]; then leave $code exhausted; fi
echo "It ended with exit code $code and begins again."
for pause in 0 5 20; do sleep $pause; if scontrol requeue "$id"; then exit $code; fi; done
leave $code refused"""
