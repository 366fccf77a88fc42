"""Jobs under a real Slurm, whose workers do what a test asks of them: ends, starts after ends, and who may end them."""

from __future__ import annotations

import dataclasses

import pytest

from convoy import exits
from convoy.launch import sweep
from convoy.launch.targets.base import CANCELLED, FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, NoSuchJob
from convoy.launch.targets.slurm.folder import SlurmFolder
from slurm_jobs import log, number, until

pytestmark = pytest.mark.slow
THOROUGH = pytest.mark.thorough
# Saves when it is asked to leave, as a run does.
SAVES = "trap 'echo saved; exit 42' TERM; echo begun; while :; do sleep 0.1; done"


def test_a_job_of_two_workers_begins_again_after_42_and_is_looked_after_to_its_end(slurm, target, planned, monkeypatch):
    # Of the submitting shell a job gets what is named, whole, and nothing else; its own SBATCH_* change nothing.
    own = {
        "SECRET": "s",
        "KEY": 'a,b "c" $d',
        "SBATCH_EXPORT": "ALL",
        "SBATCH_PARTITION": "closed",
        "SLURM_JOB_ID": "1",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    plan = 'echo "start $attempt of $rank: $KEY$SECRET"; [ $attempt = 1 ] || exit 42'
    spec = planned(plan, "--workers=2", "--env=KEY")
    first = target.submit(spec)
    assert (first.phase, first.digest) in ((PENDING, spec.digest), (RUNNING, spec.digest))
    until(target, "job", lambda state: "Slurm lets about two minutes pass" in state.reason)
    assert target.submit(spec).phase == RESTARTING, "the same job again changes nothing"
    other = planned(plan, "--workers=1")
    with pytest.raises(exits.CannotRun, match=r"--name=job is another job, which is restarting; give --replace"):
        target.submit(other)
    with pytest.raises(exits.CannotRun, match="`convoy launch cancel --target=slurm --name=job` ends it"):
        target.remove("job")
    end = until(target, "job")
    assert (end.phase, end.restarts, end.exit_code) == (SUCCEEDED, 1, 0)
    assert [log("job", worker, attempt) for worker in (0, 1) for attempt in (0, 1)] == [
        f"start {attempt} of {worker}: {own['KEY']}\nWorker {worker} ended with exit code {0 if attempt else 42}.\n"
        for worker in (0, 1)
        for attempt in (0, 1)
    ]
    assert list(target.logs("job", 1, follow=True)) == [
        f"start 1 of 1: {own['KEY']}",
        "Worker 1 ended with exit code 0.",
    ]
    # Slurm truncates what a script printed when it begins again; this one keeps its log itself.
    kept = (SlurmFolder("job").path / "slurm.log").read_text()
    assert (
        kept.index("start 0, on n")
        < kept.index("ended with exit code 42 and begins again")
        < kept.index("start 1, on n")
    )
    assert target.submit(spec) == end
    assert [state.name for state in target.jobs()] == ["job"]
    # Slurm forgets it after minutes; the record stays.
    slurm_knows = SlurmFolder("job").read()
    SlurmFolder("job").write(dataclasses.replace(slurm_knows, phase=RUNNING, exit_code=None, number="999999"))
    assert target.state("job") == end
    target.remove("job")
    assert target.jobs() == []
    with pytest.raises(NoSuchJob, match="there is no job job here; `convoy launch list --target=slurm`"):
        target.state("job")


def test_a_crash_beside_a_worker_that_saved_ends_the_job_for_good(slurm, target, planned):
    """srun tells the largest code of its tasks', and 42 is larger than that of a bug."""
    codes = (1, 2, 65, 70, 78, 130)
    for code in codes:
        crash = f'sleep 0.5; echo "convoy: that is bad."; exit {code}'
        plan = f"[ $rank = 0 ] || {{ {crash}; }}; trap 'exit 42' TERM; while :; do sleep 0.1; done"
        target.submit(planned(plan, "--workers=2", name=f"ends-{code}"))
    for code in codes:
        end = until(target, f"ends-{code}")
        assert (end.phase, end.exit_code, end.restarts) == (FAILED, code, 0)
        assert end.reason == f"worker 1 ended with exit code {code}: that is bad"
        assert SlurmFolder(end.name).ended() == (code, 0, "over")


@pytest.mark.parametrize("by_hand", [False, True], ids=["by us", "by scancel"])
def test_a_cancelled_job_stays_cancelled_though_its_workers_saved_and_ended_with_42(slurm, target, planned, by_hand):
    target.submit(planned(SAVES, "--workers=2"))
    until(target, "job", lambda state: "begun" in log("job", 0) and "begun" in log("job", 1))
    if by_hand:
        slurm.run("scancel", number("job"))
    else:
        assert target.cancel("job").phase == CANCELLED
    end = until(target, "job")
    assert (end.phase, end.exit_code) == (CANCELLED, None)
    assert "saved\nWorker 0 ended with exit code 42." in log("job", 0)
    assert slurm.job(number("job"))["JobState"] == "CANCELLED"
    assert slurm.job(number("job"))["Restarts"] == "0"


def test_a_job_that_waits_says_why_and_what_slurm_refuses_costs_nothing(slurm, target, planned):
    with pytest.raises(exits.CannotRun, match="Slurm refuses `sbatch --test-only`: .*Requested node configuration"):
        target.submit(planned("exit 0", "--workers=4"))
    with pytest.raises(exits.CannotRun, match="invalid partition specified: nowhere"):
        target.submit(planned("exit 0", "--partition=nowhere"))
    assert target.jobs() == []
    target.submit(planned("exit 0", "--partition=closed", name="closed"))
    until(target, "closed", lambda state: "its partition is down; ask when it comes back" in state.reason)
    target.submit(planned("exit 0", "--partition=short", "--hours=1", name="long"))
    until(target, "long", lambda state: "the partition allows no job so long" in state.reason)
    # Nodes that are away come back: sbatch --test-only says the same of them as of nodes that do not exist.
    slurm.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    try:
        target.submit(planned("exit 0", "--workers=2", name="away"))
        until(target, "away", lambda state: "nodes that it needs are down, drained or reserved" in state.reason)
    finally:
        slurm.run("scontrol", "update", "NodeName=n2", "State=RESUME")
    for name in ("closed", "long", "away"):
        assert target.cancel(name).phase == CANCELLED
    # The other job was refused before this one lost its place.
    target.submit(planned(SAVES))
    with pytest.raises(exits.CannotRun, match="invalid partition specified: nowhere"):
        target.submit(planned("exit 0", "--partition=nowhere"), replace=True)
    assert until(target, "job", RUNNING).phase == RUNNING
    assert until(target, target.submit(planned("exit 0", "--max_restarts=0"), replace=True).name).phase == SUCCEEDED


@THOROUGH
def test_the_last_task_of_an_array_queues_itself_alone_again(slurm, target, planned, tmp_path):
    """Its number is the array's: a requeue of that starts every task again that still runs."""
    done = tmp_path / "done"
    plan = f"[ ! -e {done} ] || exit 0; case $index in 2) [ $attempt = 1 ] || exit 42 ;; *) {SAVES} ;; esac"
    specs = [planned(plan, name=f"lr-{index}") for index in range(3)]
    states = target.submit_many(specs, at_once=3)
    assert [state.name for state in states] == ["lr-0", "lr-1", "lr-2"]
    assert [number(state.name).partition("_")[2] for state in states] == ["0", "1", "2"]
    assert until(target, "lr-2").restarts == 1
    for name in ("lr-0", "lr-1"):
        state = target.state(name)
        assert (state.phase, state.restarts) == (RUNNING, 0), state
        assert target.cancel(name).phase == CANCELLED
    done.touch()
    # The same sweep again: what succeeded stays, the others begin, as an array of two.
    ends = sweep.submit_all(target, specs, max_parallel=1)
    assert [end.phase for end in ends] == [SUCCEEDED] * 3
    assert [number(end.name).partition("_")[2] for end in ends] == ["0", "1", "2"]
