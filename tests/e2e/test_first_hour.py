"""The hour of a person who has a folder of photographs: a run that is interrupted twice, and continued by what it prints."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import environment, events_of, hear_hangups, result_of

pytestmark = [pytest.mark.thorough, pytest.mark.slow]

DRAW = Path(__file__).parents[2] / "docs" / "your-photographs" / "draw.py"
BEGIN = (
    "convoy train --dataset=folder:photos --image_size=48 --augment=resized:0.5+flip --batch_size=32 --duration=100ep"
    " --devices=cpu:1 --checkpoint_every=5ep --eval_every=5ep --deterministic"
)


def start(line: str, place: Path) -> subprocess.Popen[str]:
    """A command as a shell would start it."""
    argv = [sys.executable, "-P", "-m", *shlex.split(line)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv, cwd=place, env=environment(), stdout=pipe, stderr=pipe, text=True, preexec_fn=hear_hangups
    )


def wait_for_saves(place: Path, saves: int) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        runs = [run_dir for run_dir in place.glob("runs/*") if (run_dir / "events.jsonl").exists()]
        if any([event["event"] for event in events_of(run_dir)].count("saved") >= saves for run_dir in runs):
            return
        time.sleep(0.05)
    raise AssertionError(f"{saves} saves did not come")


def printed_command(text: str) -> str:
    (line,) = re.findall(r"^  (convoy train .*)$", text, re.MULTILINE)
    return line


def test_from_a_folder_to_a_measured_model_with_two_interruptions(tmp_path):
    subprocess.run([sys.executable, DRAW, "photos"], cwd=tmp_path, check=True)
    (tmp_path / "photos" / "elm" / "._000.jpg").write_bytes(b"\0\5\x16\7")  # what a Mac leaves in an archive
    line, codes = BEGIN, []
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 42)):
        run = start(line, tmp_path)
        wait_for_saves(tmp_path, 1 + 2 * len(codes))
        run.send_signal(number)
        out, err = run.communicate(timeout=100)
        codes.append(run.returncode)
        assert run.returncode == code, err
        assert "1 hidden file" in out
        line = printed_command(out + err)
    run = start(line, tmp_path)
    out, err = run.communicate(timeout=500)
    assert run.returncode == 0, err
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert [event["event"] for event in events_of(run_dir)].count("training") == 3
    assert result_of(run_dir)["eval"]["accuracy"] > 0.5  # of four kinds of leaf
    (measure,) = re.findall(r"`(convoy evaluate [^`]+)`", out)
    measured = start(measure, tmp_path)
    out, err = measured.communicate(timeout=100)
    assert measured.returncode == 0, err
    assert "chose" in out  # these examples chose the checkpoint
    asked = start(f"convoy predict --run_dir={run_dir} new", tmp_path)
    out, err = asked.communicate(timeout=100)
    assert asked.returncode == 0, err
    assert out.count("new/") == 12
