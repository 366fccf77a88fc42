"""`convoy launch doctor --target=slurm` on a real cluster: what it finds, in a sentence each."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

import slurm_cluster
from convoy import exits
from convoy.launch import cli
from slurm_cluster import cluster

pytestmark = pytest.mark.slow


def doctor(capsys, *flags: str) -> tuple[int, dict[str, str]]:
    """(exit code, subject -> what was said of it)."""
    code = cli.LAUNCH(["doctor", "--target=slurm", *flags])
    lines = capsys.readouterr().out.splitlines()
    return code, {line[7:].partition(": ")[0]: line[:7] + line.partition(": ")[2] for line in lines}


def test_a_cluster_that_has_all_and_a_partition_that_does_not_exist(slurm, capsys, tmp_path):
    code, said = doctor(capsys, f"--run_dir={tmp_path / 'run'}", "--partition=main")
    assert code == exits.OK, said
    assert said["controller"].startswith("ok     cluster t, Slurm 2")
    assert said["nodes"] == "ok     n1 and n2 started a command and found Convoy"
    assert said["run directory on nodes"].endswith("run is shared by this machine and n1 and n2, and so are its locks")
    assert list(tmp_path.rglob("*doctor*")) == []
    code, said = doctor(capsys, "--partition=nowhere")
    assert code == exits.CANNOT_RUN
    assert said["partition"] == "wrong  there is no partition nowhere; those you see are closed, main, short."
    code, said = doctor(capsys, "--python=/nowhere/python")
    assert code == exits.CANNOT_RUN
    assert "install Convoy where all nodes see it, and give --python" in said["nodes"]


def test_without_slurm_and_without_a_cluster(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = doctor(capsys)
    assert code == exits.CANNOT_RUN
    assert "wrong  there is no sbatch" in said["Slurm"]


@pytest.mark.thorough
def test_a_run_directory_that_a_node_does_not_share_and_munge_that_is_gone(capsys, monkeypatch, tmp_path):
    """A cluster of its own, as it is broken: the second node has another folder there, as on a disk of its own."""
    if clause := slurm_cluster.missing():
        pytest.skip(clause)
    alone = ["unshare", "--mount", "--propagation=private"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespace (unshare)")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "own").mkdir()
    with cluster() as running:
        for name, value in running.variables.items():
            monkeypatch.setenv(name, value)
        os.kill(running.pid("slurmd-n2"), signal.SIGTERM)
        running.until(lambda: not (running.folder / "slurmd-n2.pid").exists())
        mount = f'mount -t tmpfs none {tmp_path / "own"} && exec "$@"'
        running.slurmd("n2", *alone, "sh", "-c", mount, "sh")
        running.until(lambda: running.run("sinfo", "-h", "-o", "%T", "-p", "main").split() == ["idle"])
        code, said = doctor(capsys, f"--run_dir={tmp_path / 'own' / 'run'}")
        assert code == exits.CANNOT_RUN
        assert said["records of jobs"].startswith("ok ")
        assert (
            f"wrong  n2 does not see what this machine writes to {tmp_path / 'own'}; set --run_dir"
            in said["run directory on nodes"]
        )
        running.until(lambda: not running.run("squeue", "-h").strip())
        os.kill(running.pid("m/munged"), signal.SIGTERM)
        running.until(lambda: not (running.folder / "m" / "s").exists())
        code, said = doctor(capsys)
        assert code == exits.CANNOT_RUN
        assert "wrong  munge, which authenticates this user to Slurm, does not answer (" in said["controller"]
        assert "whoever runs this machine starts munged" in said["controller"]
        running.munged()
