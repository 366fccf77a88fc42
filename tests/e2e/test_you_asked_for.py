"""The commands of docs/you-asked-for.md, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support import environment

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "you-asked-for.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]


def test_every_wish_has_an_issue_and_a_command_or_says_not_yet():
    assert len(ROWS) >= 13
    for row in ROWS:
        wish, where, answer = (cell.strip() for cell in row.strip("|").split(" | "))
        assert re.search(r"#\d+\]\(https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+\)", where), wish
        assert "`convoy " in answer or "result.json" in answer or answer.startswith("not yet"), wish


@pytest.mark.thorough
@pytest.mark.slow
def test_the_commands_run(tmp_path):
    draw = [sys.executable, DOCS / "your-photographs" / "draw.py", "photos"]
    subprocess.run(draw, cwd=tmp_path, check=True)
    (tmp_path / "photos" / "aspen" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "photos" / "aspen" / ".ipynb_checkpoints" / "copy.jpg").write_bytes(b"")
    env = environment(
        XDG_STATE_HOME=str(tmp_path / "state")
    )  # where jobs are kept: this user may have one of that name
    commands = re.findall(r"`(convoy [^`]+)`", "\n".join(ROWS))
    assert len(commands) >= 10
    for command in commands:
        argv = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    result = json.loads((tmp_path / "runs" / "again" / "result.json").read_text())
    assert 0 < result["goodput"]["fraction"] <= 1
