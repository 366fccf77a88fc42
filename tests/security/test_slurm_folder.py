"""Jobs under Slurm whose folders, and whose Slurm, a stranger wrote: listed with a sentence, and nothing else is touched."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest

from convoy import exits
from convoy.launch import watch
from convoy.launch.targets.base import RUNNING, JobState
from convoy.launch.targets.slurm.folder import SlurmFolder, SlurmRecord
from convoy.launch.targets.slurm.target import SlurmTarget
from mutations import SEED, case, counts, document, torn, untouched

CONFIG = b"Configuration data\nClusterName             = t\nKillWait                = 30 sec\n"
SHOWN = b"JobId=33 JobName=job JobState=RUNNING Reason=None Restarts=0 ExitCode=0:0 Comment=c NodeList=n[1-2]\n"
JOB = {
    "spec": {"options": {"workers": 2, "name": "job"}},
    "digest": "0" * 16,
    "run_dir": "/shared/run",
    "cluster": "t",
    "comment": "c",
    "title": "job",
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> SlurmFolder:
    """Of a job that runs, on a cluster whose scontrol prints what stands in two files."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {
        "scontrol": 'case "$*" in "show config") cat ../config ;; *) cat ../shown ;; esac',
        "squeue": ":",
    }.items():
        (programs / name).write_text(f'#!/bin/sh\ncd "$(dirname "$0")" && {body}\n')
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "config").write_bytes(CONFIG)
    (tmp_path / "shown").write_bytes(SHOWN)
    folder = SlurmFolder("job")
    os.close(folder.create(JOB, SlurmRecord(RUNNING, number="33", begun=1.0)))
    return folder


def assert_listed() -> JobState:
    """The one job there, which reads as a job or as the reason why not."""
    (state,) = SlurmTarget().jobs()
    assert state.name == "job"
    assert state.reason.isprintable()
    assert len(state.reason) < 2000
    return state


@counts(60, 1000)
def test_damaged_documents_of_a_job(folder, tmp_path, count):
    before = {name: (folder.path / name).read_bytes() for name in ("job.json", "state.json")}
    for number in range(count):
        with case(SEED, number) as chance, untouched(tmp_path, folder.path, folder.path.parent):
            name = chance.choice(sorted(before))
            right = JOB if name == "job.json" else dataclasses.asdict(SlurmRecord(RUNNING, number="33", begun=1.0))
            (folder.path / name).write_bytes(document(right, chance))
            assert_listed()
            (folder.path / name).write_bytes(before[name])


@counts(60, 1000)
def test_damaged_answers_of_slurm(folder, tmp_path, count):
    state = (folder.path / "state.json").read_bytes()
    for number in range(count):
        with case(SEED, number) as chance:
            place, right = chance.choice([("config", CONFIG), ("shown", SHOWN)])
            (tmp_path / place).write_bytes(torn(right, chance))
            assert_listed()
            (tmp_path / place).write_bytes(right)
            (folder.path / "state.json").write_bytes(state)


@counts(60, 1000)
def test_a_damaged_end_is_none(folder, tmp_path, count):
    (tmp_path / "shown").write_bytes(b"")
    for number in range(count):
        with case(SEED, number) as chance:
            (folder.path / "ended").write_bytes(torn(b"42 3 stopped\n", chance))
            ended = folder.ended()
            assert ended is None or 0 <= ended.code <= 255


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_no_link_is_followed_and_no_pipe_waited_for(folder, tmp_path, kind):
    outside = tmp_path / "outside"
    outside.write_text("0 0 over\n")
    place = folder.path / "ended"
    {"link": lambda: place.symlink_to(outside), "fifo": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    assert folder.ended() is None
    log = folder.log(0, 0)
    {"link": lambda: log.symlink_to(outside), "fifo": lambda: os.mkfifo(log), "folder": log.mkdir}[kind]()
    assert folder.sentence(2) == ""
    with pytest.raises(exits.BadData, match=r"worker-0.attempt-0.log cannot be used"):
        list(SlurmTarget().logs("job", 0, follow=False))


def test_what_a_worker_printed_reaches_no_terminal_as_it_is(folder, capsys):
    folder.log(0, 0).write_bytes(b"convoy: \x1b[2J\x9b31mgone.\nWorker 0 ended with exit code 78.\n")
    assert folder.sentence(2) == "worker 0 ended with exit code 78: \\x1b[2J\ufffd31mgone"
    watch.logs(["--target=slurm", "--name=job"])
    assert "\x1b" not in capsys.readouterr().out
