"""The script of a job: what it asks of sbatch, and that no word of a person is read by a shell as anything but that word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from convoy import exits
from convoy.launch import cli
from convoy.launch.command_line import from_argv
from convoy.launch.targets.slurm import request, script

PLACE = Path("/shared/state/convoy/slurm/job")
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "a'b",
    'a"b',
    "a b",
    "a;b",
    "a\\",
    "a*",
    "~",
    "!x",
    "&& x",
    "| x",
    "#x",
    "{a,b}",
    "é",
    "%j",
]


def job(*flags: str, run: tuple[str, ...] = ()):
    return from_argv(["--target=slurm", "--name=job", *flags, "--", "--run_dir=/shared/run", *run])


def asked(*flags: str) -> list[str]:
    return request.options([job(*flags)])


def test_what_a_job_asks_of_sbatch():
    assert asked() == [
        "job-name=job", f"comment={request.comment([job()])}", "nodes=1", "ntasks-per-node=1", "time=4320", "signal=TERM@120",
        "export=NONE", "open-mode=append", "output=/dev/null", "requeue",
    ]  # fmt: skip
    own = asked(
        "--workers=4", "--accelerator=h100x8", "--hours=24", "--partition=gpu,big", "--account=lab_1", "--qos=long",
        "--reservation=week", "--cpus=15.5", "--memory=64Gi", "--env=A,B", "--save_before=300", "--max_restarts=0",
    )  # fmt: skip
    assert {"nodes=4", "time=1440", "gres=gpu:8", "partition=gpu,big", "account=lab_1", "qos=long", "reservation=week",
            "cpus-per-task=16", "mem=64G", "export=A,B", "signal=TERM@300", "no-requeue"} < set(own)  # fmt: skip
    assert "gres=gpu:h100:8" in asked("--accelerator=h100x8", "--gres=gpu:h100:8")
    assert "gres=gpu:v100:2" in asked("--gres=gpu:v100:2")


@pytest.mark.parametrize(("hours", "minutes"), [(0.001, 1), (1, 60), (0.1, 6), (1.01, 61), (72, 4320), (1 / 3, 20)])
def test_a_time_limit_is_in_whole_minutes_and_never_too_short(hours, minutes):
    assert request.minutes(hours) == minutes


def words(text: str, variable: str) -> list[str]:
    """The words of an array of the script, as bash reads it."""
    lines = [line for line in text.splitlines() if line.startswith("job=")]
    program = f'{lines[0]}; printf "%s\\0" "${{{variable}[@]}}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_every_word_of_a_person_reaches_the_worker_as_it_was_typed(tmp_path):
    for word in HOSTILE:
        spec = job(run=(f"--data_dir=/data/{word}", f"--dataset=folder:/data/{word}"))
        text = script.render([spec], [PLACE], tmp_path / word)
        assert set(words(text, "flags")) == {
            "--run_dir=/shared/run",
            f"--data_dir=/data/{word}",
            f"--dataset=folder:/data/{word}",
        }
        assert f"\ncd -- {shlex.quote(str(tmp_path / word))} || " in text
        assert all(
            re.fullmatch(r"#SBATCH --[A-Za-z0-9=:@,._/%-]+", line)
            for line in text.splitlines()
            if line.startswith("#SBATCH")
        )


@pytest.mark.parametrize(
    "flag",
    [*(f"--partition={word}" for word in ("a b", "-p", "a;b", "a,,b", "a\tb", "x" * 65, "$(a)", "a=b", "é")), "--account=a,b",
     "--account=a'b", "--qos=a b", "--reservation=a b", "--gres=gpu",
     "--gres=gpu:0", "--gres=gpu:8,x:1", "--gres=gpu:a b:1",
     "--gres=gpu:\u0661",
     "--modules=a;b", "--modules=a b", "--modules=-a", "--modules=a,,b", "--env=A=B", "--env=A B", "--env=1A",
     "--env=A,,B", "--env=ALL", "--env=A,NONE", "--env=NIL",
     "--apptainer=image.sif", "--python=python", "--save_before=0", "--save_before=70000",
     "--save_before=300 --hours=0.05", "--image=a/b:1", "--spot", "--service_account=me", "--accelerator=v5e-8",
     "--accelerator=l4x4 --gres=gpu:8"],
)  # fmt: skip
def test_what_slurm_or_a_script_would_read_as_something_else_is_refused(flag):
    with pytest.raises((exits.CannotRun, exits.UsageError), match=f"--{flag[2:].split('=')[0]}"):
        job(*flag.split(" --")[0:1], *(f"--{word}" for word in flag.split(" --")[1:]))


@pytest.mark.parametrize("odd", ["a b", "a%j", "a\\b", "a'b", "é"])
def test_a_state_folder_that_slurm_reads_as_a_pattern_is_refused(odd):
    with pytest.raises(exits.CannotRun, match="set XDG_STATE_HOME to a folder, shared by all nodes"):
        script.render([job()], [PLACE / odd], Path("/"))


def test_an_array_is_one_script_in_which_each_task_knows_its_job(tmp_path):
    specs = [
        from_argv(["--target=slurm", f"--name=lr-{n}", "--", f"--run_dir=/r/{n}", f"--seed={n}"]) for n in range(3)
    ]
    text = script.render(specs, [tmp_path / spec.name for spec in specs], tmp_path, at_once=2)
    assert "#SBATCH --array=0-2%2" in text
    assert "#SBATCH --job-name=lr\n" in text
    program = text[text.index("case $SLURM_ARRAY") : text.index("export PATH")] + 'echo "$job $folder ${flags[*]}"'
    for number in range(3):
        env = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}
        done = subprocess.run(["bash", "-c", program], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.split()[:3] == [f"lr-{number}", f"{tmp_path}/lr-{number}", f"--run_dir=/r/{number}"]


def test_bash_finds_no_fault_and_modules_come_with_a_login_shell(tmp_path):
    text = script.render(
        [job("--modules=cuda/12.4,python/3.12", "--apptainer=/images/c.sif", "--gres=gpu:1")], [PLACE], tmp_path
    )
    assert text.startswith("#!/bin/bash -l\n")
    assert "module load cuda/12.4 || leave 78 over\nmodule load python/3.12 || leave 78 over\n" in text
    assert "apptainer exec --nv /images/c.sif python -P -m convoy.launch.worker -- " in text
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)


def test_render_prints_the_script_and_what_it_costs_is_in_gpu_hours(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    argv = ["--target=slurm", "--name=job", "--accelerator=h100x8", "--workers=4", "--hours=24"]
    run = ["--", "--run_dir=run", "--dataset=digits"]
    assert cli.LAUNCH(["render", *argv, *run]) == exits.OK
    rendered = capsys.readouterr().out
    assert rendered.startswith("#!/bin/bash\n#SBATCH --job-name=job\n")
    assert f"flags=(--run_dir={tmp_path}/run)" in rendered
    assert cli.LAUNCH(["submit", "--dry_run", *argv, *run]) == exits.OK
    printed = capsys.readouterr()
    cost = (
        "# 32 GPUs: 32 GPU hours an hour, 768 GPU hours a day\n"
        "# at most 768 GPU hours a start, which --hours=24 bounds; at most 11 starts\n"
    )
    assert printed.out == cost + rendered
    assert "asks for any GPUs of the partition; --gres=gpu:TYPE:COUNT" in printed.err
    speed = ["--images_per_second=1000", "--images_per_epoch=3600000"]
    assert cli.LAUNCH(["cost", *argv, *speed, "--", "--duration=2ep"]) == exits.OK
    assert "an epoch of 3,600,000 images at 1,000 a second: 60 min, 32 GPU hours\n2 epochs: 2 h, 64 GPU hours" in (
        capsys.readouterr().out
    )
    assert cli.LAUNCH(["cost", "--target=slurm", "--workers=2"]) == exits.OK
    assert capsys.readouterr().out.startswith("2 nodes without GPUs: 2 node hours an hour, 48 node hours a day\n")
