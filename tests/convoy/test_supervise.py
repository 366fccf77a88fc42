"""The parent: exit codes, signals, restarts, and no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convoy import exits, supervise


@pytest.mark.parametrize(
    ("returncode", "asked", "code"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (2, 0, 2),
        (65, 0, 65),
        (70, 0, 70),
        (78, 0, 78),
        (42, 0, 42),
        (130, 0, 130),
        (134, 0, 42),  # an abort that a shell reports
        (-signal.SIGKILL, 0, 42),
        (-signal.SIGABRT, 0, 42),
        (-signal.SIGSEGV, 0, 42),
        (-signal.SIGKILL, signal.SIGTERM, 42),
        (-signal.SIGKILL, signal.SIGINT, 130),
    ],
)
def test_death_becomes_an_exit_code(returncode, asked, code):
    assert supervise.exit_code(returncode, asked) == code


def child(tmp_path: Path, body: str) -> list[str]:
    """A child that counts its starts in the file `starts`, then does `body`."""
    path = tmp_path / "child.py"
    path.write_text(
        "import os, signal, sys, time\n"
        f"starts = {str(tmp_path / 'starts')!r}\n"
        "open(starts, 'a').write('x')\n"
        "count = len(open(starts).read())\n" + body
    )
    return [sys.executable, str(path)]


@pytest.mark.parametrize(
    ("body", "restarts", "code", "starts"),
    [
        ("sys.exit(42)", 2, 42, 3),
        ("sys.exit(0 if count == 2 else 42)", 5, 0, 2),
        ("os.kill(os.getpid(), signal.SIGKILL) if count == 1 else sys.exit(0)", 1, 0, 2),
        ("os.abort()", 0, 42, 1),
        ("sys.exit(70)", 3, 70, 1),
        ("sys.exit(78)", 3, 78, 1),
        ("sys.exit(1)", 3, 1, 1),
    ],
)
def test_only_try_again_is_restarted(tmp_path, monkeypatch, body, restarts, code, starts):
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_SECONDS", 0.01)
    assert supervise.run(child(tmp_path, body), restarts) == code
    assert (tmp_path / "starts").read_text() == "x" * starts


PARENT = """
import sys
from convoy import supervise
supervise.ANSWER_SECONDS = {seconds}
sys.exit(supervise.run({command!r}, 3))
"""


def start_parent(command: list[str], seconds: float = 25.0) -> subprocess.Popen[str]:
    program = PARENT.format(seconds=seconds, command=command)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_once_and_not_restarted(tmp_path, number, code):
    body = (
        "seen = []\n"
        "for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, lambda n, f: seen.append(n))\n"
        "open(starts + '.ready', 'w')\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "sys.exit({signal.SIGTERM: 42, signal.SIGINT: 130}[seen[0]] if len(seen) == 1 else 99)"
    )
    parent = start_parent(child(tmp_path, body))
    wait_for(tmp_path / "starts.ready")
    parent.send_signal(number)
    assert parent.wait(30) == code
    assert (tmp_path / "starts").read_text() == "x"


def test_a_signal_that_is_not_answered_is_followed_by_kill(tmp_path):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(starts + '.ready', 'w')\ntime.sleep(600)"
    parent = start_parent(child(tmp_path, body), seconds=0.3)
    wait_for(tmp_path / "starts.ready")
    parent.terminate()
    _, err = parent.communicate(timeout=30)
    assert parent.returncode == exits.TRY_AGAIN
    assert "no answer" in err


def test_a_child_that_gives_no_sign_of_life_is_given_up(tmp_path, capfd):
    body = (
        "from convoy import pulse, supervise\nsupervise.follow_parent()\n"
        "with pulse.working(): time.sleep(2.5)\n"  # longer than the timeout, but alive
        "open(starts + '.worked', 'w')\n"
        "time.sleep(600)"
    )
    assert supervise.run(child(tmp_path, body), hang_timeout=2.0) == exits.TRY_AGAIN
    assert (tmp_path / "starts.worked").exists()
    assert "no sign of life for --hang_timeout=2 s" in capfd.readouterr().err


def test_a_child_that_dies_after_its_work_has_succeeded(tmp_path):
    body = (
        "from convoy import pulse, supervise\nsupervise.follow_parent()\npulse.tell(pulse.DONE)\ntime.sleep(0.3)\n"
        "os.abort()"
    )
    assert supervise.run(child(tmp_path, body)) == exits.OK


def test_a_run_does_not_outlive_its_parent(tmp_path):
    body = (
        "from convoy import supervise\nsupervise.follow_parent()\n"
        "open(starts + '.pid', 'w').write(str(os.getpid()))\nos.rename(starts + '.pid', starts + '.ready')\n"
        "time.sleep(600)"
    )
    parent = start_parent(child(tmp_path, body))
    wait_for(tmp_path / "starts.ready")
    pid = int((tmp_path / "starts.ready").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody reaped yet is dead enough.
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
