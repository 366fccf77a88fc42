"""docs/slurm.md, followed word by word on a cluster of four nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import slurm_cluster
from slurm_jobs import record
from support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


def commands() -> list[str]:
    """The commands of the page but its first, which needs data that is not here."""
    text = (REPOSITORY / "docs" / "slurm.md").read_text().partition("You need:")[2]
    return re.findall(r"^    (convoy .*)$", text, re.MULTILINE)


def test_every_command_of_the_page_does_what_it_says(tmp_path):
    if clause := slurm_cluster.missing():
        pytest.skip(clause)
    begun = time.monotonic()
    with slurm_cluster.cluster(nodes=4) as cluster:
        version = cluster.run("sinfo", "--version").split()[-1]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {
            **cluster.environment(),
            "PATH": path,
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONPATH": str(REPOSITORY),
        }
        said = {}
        for line in commands():
            done = subprocess.run(
                ["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            said[line] = done.stdout
    assert len(said) == 12
    shown = "\n".join(said.values())
    assert "8 GPUs: 8 GPU hours an hour" in shown
    assert "run directory on nodes: " in shown
    for name in ("one", "four"):
        assert re.search(rf"^{name}: succeeded$", shown, re.MULTILINE)
        assert (tmp_path / "runs" / name / "result.json").exists()
    assert len(list((tmp_path / "runs" / "lr").glob("*/result.json"))) == 4
    assert "lr-lr0-2-seed1" in shown
    assert "removed, it had succeeded" in shown
    record(
        version,
        "test_every_command_of_the_page_does_what_it_says",
        begun,
        "tensorflow",
        4,
        0,
        "all commands ended with 0",
    )
