"""What Slurm prints is from outside, and so is a job's folder: programs that answer anything, records that say anything."""

from __future__ import annotations

import json
import stat

import pytest

from convoy import exits
from convoy.launch import follow
from convoy.launch.command_line import from_argv
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED
from convoy.launch.targets.slurm import api, reasons
from convoy.launch.targets.slurm.folder import SlurmFolder
from convoy.launch.targets.slurm.target import SlurmTarget

SHOWN = "JobId=33 JobName=job Comment=convoy:1 JobState={} Reason={} Restarts={} ExitCode={} NodeList=n1"
CONFIG = "Configuration data as of now\nClusterName             = t\nKillWait                = 30 sec\n"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(scontrol="echo 1") -> programs of that name in place of Slurm's, in sh; `asked` lists how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def write(**bodies: str) -> None:
        for name, body in bodies.items():
            (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/asked\n{body}\n')
            (folder / name).chmod(stat.S_IRWXU)

    write(sbatch="echo 33", scontrol=says(CONFIG), scancel=":", squeue=":")
    return write


def says(*texts: str) -> str:
    """The body of a program that prints this."""
    return "\n".join(f"cat <<'END'\n{text}\nEND" for text in texts)


def controls(show: str) -> str:
    """The body of scontrol: the configuration, and `show` for a job."""
    return f'case "$*" in "show config") {says(CONFIG)} ;; *) {show} ;; esac'.replace("\nEND ;;", "\nEND\n;;")


def job(*flags: str):
    return from_argv(["--target=slurm", "--name=job", *flags, "--", "--run_dir=run"])


@pytest.mark.parametrize(
    ("state", "reason", "restarts", "code", "phase", "words"),
    [
        ("PENDING", "Resources", 0, "0:0", PENDING, "no nodes are free for it yet"),
        ("PENDING", "QOSMaxGRESPerUser", 0, "0:0", PENDING, "a limit of its quality of service is used up"),
        ("PENDING", "ReqNodeNotAvail,_UnavailableNodes:n2", 0, "0:0", PENDING, "nodes that it needs are down"),
        ("PENDING", "SomethingNew\x1b[2J", 0, "0:0", PENDING, "Slurm says SomethingNew\\x1b[2J"),
        ("PENDING", "BeginTime", 1, "0:0", RESTARTING, "about two minutes"),
        ("RUNNING", "None", 0, "0:0", RUNNING, ""),
        ("COMPLETING", "None", 0, "0:0", RUNNING, "its processes leave"),
        ("COMPLETED", "None", 2, "0:0", SUCCEEDED, ""),
        ("CANCELLED", "None", 0, "0:15", CANCELLED, ""),
        ("FAILED", "NonZeroExitCode", 0, "78:0", FAILED, "its first node does not see"),
        ("FAILED", "JobLaunchFailure", 0, "0:10", FAILED, "its first node does not see"),
        ("TIMEOUT", "TimeLimit", 0, "0:15", FAILED, "it reached its time limit before it had saved; submit it again"),
        ("NODE_FAIL", "NodeDown", 0, "0:0", FAILED, "a node of it failed"),
        ("OUT_OF_MEMORY", "OutOfMemory", 0, "0:125", FAILED, "give more --memory"),
        ("NOVEL", "None", 0, "0:0", FAILED, "Slurm says NOVEL"),
    ],
)
def test_every_state_of_slurm_is_a_phase_and_a_sentence(programs, state, reason, restarts, code, phase, words):
    programs(scontrol=controls(says(SHOWN.format(state, reason, restarts, code))))
    target = SlurmTarget()
    now = target.submit(job())
    assert (now.phase, now.restarts) == (phase, restarts)
    assert words in now.reason
    assert now.reason.isprintable()
    assert follow.exit_code(now) == {"78:0": 78, "0:10": 138}.get(code, 42) if phase == FAILED else True


@pytest.mark.parametrize(
    "shown",
    ["", "nothing", "JobState=RUNNING",
     SHOWN.format("RUNNING", "None", "x", "0:0"), SHOWN.format("RUNNING", "None", 0, "999:0"),
     SHOWN.format("RUNNING", "None", 2**40, "0:0"), "\x1b[2J" * 9, "=" * 100_000, "A=" * 50_000],
)  # fmt: skip
def test_an_answer_that_is_none_of_slurms_is_bad_data_and_the_job_is_listed_with_it(programs, shown):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    target = SlurmTarget()
    target.submit(job())
    programs(scontrol=controls(says(shown)))
    with pytest.raises(exits.BadData, match="what `scontrol show job 33` prints"):
        target.state("job")
    (listed,) = target.jobs()
    assert listed.phase == FAILED
    assert listed.reason.isprintable()


@pytest.mark.parametrize("answer", ["", "Submitted batch job 33", "0", "-1", "3" * 30, "33 44", "../33", "\u0663"])
def test_an_answer_of_sbatch_that_is_no_number_is_bad_data(programs, answer):
    programs(sbatch=says(answer))
    with pytest.raises(exits.BadData, match="in place of a job's number; look with `squeue --me`"):
        SlurmTarget().submit(job())


def test_a_number_with_a_cluster_is_a_number(programs):
    programs(sbatch="echo '33;t'", scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    SlurmTarget().submit(job())
    assert SlurmFolder("job").read().number == "33"


def test_an_answer_without_end_is_cut(programs, monkeypatch):
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.5)
    programs(squeue="sleep 60")
    with pytest.raises(exits.TryAgain, match="gave no answer within 0.2 s"):
        api.run("squeue", seconds=0.2)
    programs(squeue="head -c 9000000 /dev/zero")
    with pytest.raises(exits.BadData, match="printed more than 8,388,608 bytes"):
        api.run("squeue")


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        ("slurm_load_jobs error: Invalid job id specified", api.NoJob, "does not know this job, or no longer"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", exits.TryAgain, "controller does not answer"),
        ("x: error: Munge encode failed: Failed to access /m", exits.CannotRun, "whoever runs this machine starts munged"),
        ("x: fatal: Could not establish a configuration source", exits.CannotRun, "this machine belongs to no cluster"),
        ("sbatch: error: \x1b[2JInvalid account", exits.CannotRun, r"Slurm refuses `squeue`: \\x1b\[2JInvalid account"),
        ("", exits.CannotRun, "no reason given"),
    ],
)  # fmt: skip
def test_an_error_is_a_sentence(programs, error, kind, sentence):
    programs(squeue=f"cat >&2 <<'END'\n{error}\nEND\nexit 1")
    with pytest.raises(kind, match=sentence) as raised:
        api.run("squeue")
    assert str(raised.value).isprintable()


def test_of_the_environment_slurms_commands_see_what_they_need_alone(programs, tmp_path, monkeypatch):
    """Variables named SBATCH_* override a script's own options, and SLURM_* of a job within a job are another job's."""
    for name in (
        "SBATCH_EXPORT",
        "SBATCH_PARTITION",
        "SLURM_JOB_ID",
        "SLURM_EXPORT_ENV",
        "SECRET",
        "KEY",
        "SLURM_CONF",
    ):
        monkeypatch.setenv(name, f"my {name}")
    programs(
        sbatch=f"env >>{tmp_path}/seen; echo 33", scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0")))
    )
    SlurmTarget().submit(job("--env=KEY"))
    names = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert {"KEY", "SLURM_CONF", "PATH"} <= names <= {"KEY", "_", "PWD", "SHLVL", "OLDPWD", *api._KEPT}
    monkeypatch.delenv("KEY")
    with pytest.raises(exits.CannotRun, match="--env=KEY: KEY is not set in this shell"):
        SlurmTarget().submit(job("--env=KEY", "--workers=2"), replace=True)


def test_a_submission_whose_answer_was_lost_is_known_again(programs, tmp_path):
    programs(
        sbatch='[ "$1" = --test-only ] || sleep 60', scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0")))
    )
    target = SlurmTarget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "ANSWER_SECONDS", 0.5)
        patch.setitem(api.run.__kwdefaults__, "seconds", 0.5)
        with pytest.raises(exits.TryAgain, match="gave no answer within 0.5 s"):
            target.submit(job())
    comment = SlurmFolder("job").job()["comment"]
    programs(sbatch="exit 1", squeue=says(f"31|31|other\n44|44|{comment}\nodd\n|x|{comment}"))
    assert target.submit(job()).phase == RUNNING
    assert SlurmFolder("job").read().number == "44"


def test_a_submission_that_never_reached_slurm_is_begun_by_the_same_command(programs):
    folder = SlurmFolder("job")
    programs(sbatch='[ "$1" = --test-only ] || sleep 60')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(api.run.__kwdefaults__, "seconds", 0.5)
        with pytest.raises(exits.TryAgain):
            SlurmTarget().submit(job())
    assert "it was never begun; submit it again" in SlurmTarget().state("job").reason
    programs(sbatch="echo 33", scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    assert SlurmTarget().submit(job()).phase == RUNNING
    assert folder.read().number == "33"


@pytest.mark.parametrize(
    ("ended", "phase", "code", "words"),
    [
        ("0 2 over", SUCCEEDED, 0, ""),
        ("42 1 stopped", CANCELLED, None, ""),
        ("78 0 over", FAILED, 78, "slurm.log may say why"),
        ("42 10 exhausted", FAILED, 42, "no restart is left of 10"),
        ("42 0 refused", FAILED, 42, "Slurm refused to queue it again"),
        ("", CANCELLED, None, "it left the queue before it began"),
        ("999 0 over", CANCELLED, None, "before it began"),
        ("0 0 over\nmore", CANCELLED, None, "before it began"),
        ("\u0660 0 over", CANCELLED, None, "before it began"),
    ],
)
def test_a_job_that_slurm_has_forgotten_ended_as_its_script_wrote(programs, ended, phase, code, words):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    target = SlurmTarget()
    target.submit(job())
    (SlurmFolder("job").path / "ended").write_text(ended)
    programs(scontrol=controls("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"))
    end = target.state("job")
    assert (end.phase, end.exit_code) == (phase, code)
    assert words in end.reason


def test_a_job_that_slurm_forgot_and_whose_script_wrote_nothing_can_be_submitted_again(programs):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    SlurmTarget().submit(job())
    SlurmFolder("job").new_log(0, 0).close()
    programs(scontrol=controls("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"))
    end = SlurmTarget().state("job")
    assert (end.phase, end.exit_code) == (FAILED, 42)
    assert "its first node was lost; submit it again to go on" in end.reason


def test_a_number_that_is_another_jobs_now_is_not_this_job(programs):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    SlurmTarget().submit(job())
    other = SHOWN.format("RUNNING", "None", 0, "0:0").replace("JobName=job", "JobName=other")
    programs(scontrol=controls(says(other)))
    assert SlurmTarget().state("job").phase == CANCELLED


def test_a_job_of_another_cluster_is_named_as_such(programs):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    SlurmTarget().submit(job())
    programs(scontrol=says(CONFIG.replace("= t", "= other")))
    with pytest.raises(exits.CannotRun, match="job is a job of the cluster t, and this machine is of other; ask there"):
        SlurmTarget().state("job")
    assert [state.phase for state in SlurmTarget().jobs()] == [RUNNING]


@pytest.mark.parametrize(
    "state",
    [{}, {"number": "33; rm -rf"}, {"number": "-1"}, {"number": 33}, {"number": "33", "phase": "gone"}, {"phase": []}],
)
def test_a_record_that_something_else_wrote_is_bad_data_and_asks_slurm_nothing(programs, tmp_path, state):
    programs(scontrol=controls(says(SHOWN.format("RUNNING", "None", 0, "0:0"))))
    SlurmTarget().submit(job())
    place = SlurmFolder("job").path / "state.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **state} if state else state))
    (tmp_path / "asked").unlink()
    with pytest.raises(exits.BadData, match=r"state.json cannot be used: .*`convoy launch gc` removes"):
        SlurmTarget().state("job")
    assert not (tmp_path / "asked").exists()


def test_every_reason_is_a_clause():
    for text in [*reasons._WAITING, *reasons._BEGINNINGS]:
        clause = reasons.waiting(text)
        assert clause[0].islower() or clause.startswith("Slurm")
        assert not clause.endswith(".")
