"""The parent: exit codes, signals, restarts, and no orphan."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convoy import exits, supervise
from support import hear_hangups

pytestmark = pytest.mark.slow


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
def test_a_crash_becomes_an_exit_code(returncode, asked, code):
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


def test_the_pause_before_a_restart_doubles_up_to_a_bound(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "LAST_BACKOFF_SECONDS", 0.04)
    supervise.run(child(tmp_path, "sys.exit(42)"), 4)
    assert all(0.5 <= part <= 1 for part in parts_of(pauses(capfd), [0.01, 0.02, 0.04, 0.04]))


def test_after_a_long_attempt_the_pauses_begin_again(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(supervise, "LONG_ATTEMPT_SECONDS", 0.0)
    supervise.run(child(tmp_path, "sys.exit(42)"), 3)
    assert all(0.5 <= part <= 1 for part in parts_of(pauses(capfd), [0.01, 0.01, 0.01]))


def pauses(capfd: pytest.CaptureFixture[str]) -> list[float]:
    said = re.findall(r"restart (\d) of (\d) in (\S+) s, since it ended with exit code 42", capfd.readouterr().err)
    assert [int(number) for number, _, _ in said] == list(range(1, 1 + int(said[0][1])))
    return [float(seconds) for _, _, seconds in said]


def parts_of(seconds: list[float], bounds: list[float]) -> list[float]:
    return [second / bound for second, bound in zip(seconds, bounds, strict=True)]


def test_a_restart_prints_its_reason(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_SECONDS", 0.01)
    supervise.run(child(tmp_path, "os.kill(os.getpid(), signal.SIGKILL) if count == 1 else sys.exit(0)"), 1)
    assert "since it was ended by SIGKILL" in capfd.readouterr().err


def test_a_preempted_machine_restarts_nothing(tmp_path, capfd):
    body = "from convoy import heartbeat, supervise\nsupervise.follow_parent()\nheartbeat.beat(heartbeat.NOTICE)\nsys.exit(42)"
    assert supervise.run(child(tmp_path, body), 3) == 42
    assert (tmp_path / "starts").read_text() == "x"
    assert "no restart here" in capfd.readouterr().err


def test_all_attempts_of_a_parent_are_one_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.delenv("CONVOY_WRITER", raising=False)
    body = "open(starts + '.writers', 'a').write(os.environ['CONVOY_WRITER'] + '\\n')\nsys.exit(42)"
    for _ in range(2):
        supervise.run(child(tmp_path, body), 1)
    monkeypatch.setenv("CONVOY_WRITER", "given")
    supervise.run(child(tmp_path, body), 0)
    first, again, other, other_again, given = (tmp_path / "starts.writers").read_text().split()
    assert first == again
    assert other == other_again
    assert first != other
    assert given == "given"


PARENT = """
import sys
from convoy import supervise
supervise.FIRST_BACKOFF_SECONDS = {backoff}
sys.exit(supervise.run({command!r}, 3, {hang_timeout}, {seconds}))
"""


def start_parent(
    command: list[str], seconds: float = 25.0, backoff: float = 1.0, hang_timeout: float = 0.0, before=hear_hangups
) -> subprocess.Popen[str]:
    program = PARENT.format(seconds=seconds, backoff=backoff, hang_timeout=hang_timeout, command=command)
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130), (signal.SIGHUP, 42)])
def test_a_signal_is_passed_on_once_and_not_restarted(tmp_path, number, code):
    body = (
        "seen = []\n"
        "codes = {signal.SIGTERM: 42, signal.SIGINT: 130, signal.SIGHUP: 42}\n"
        "for n in codes: signal.signal(n, lambda n, f: seen.append(n))\n"
        "open(starts + '.ready', 'w')\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "sys.exit(codes[seen[0]] if len(seen) == 1 else 99)"
    )
    parent = start_parent(child(tmp_path, body))
    wait_for(tmp_path / "starts.ready")
    parent.send_signal(number)
    assert parent.wait(30) == code
    assert (tmp_path / "starts").read_text() == "x"


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path):
    """As under nohup, in the parent and in the run."""
    body = (
        "ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN\n"
        "signal.signal(signal.SIGTERM, lambda n, f: sys.exit(65 if ignored else 99))\n"
        "open(starts + '.ready', 'w')\n"
        "while True: time.sleep(0.01)"
    )
    parent = start_parent(child(tmp_path, body), before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(tmp_path / "starts.ready")
    parent.send_signal(signal.SIGHUP)
    parent.terminate()
    assert parent.wait(30) == 65


def test_a_warning_reaches_the_run_once_it_has_something_to_save(tmp_path):
    body = (
        "from convoy import heartbeat, supervise\nsupervise.follow_parent()\n"
        "open(starts + '.early', 'w')\n"
        "while not os.path.exists(starts + '.go'): time.sleep(0.01)\n"
        "signal.signal(signal.SIGUSR1, lambda n, f: os._exit(65))\n"  # at once: while Python ends, the next one would kill
        "heartbeat.beat(heartbeat.CAN_SAVE)\n"
        "while True: time.sleep(0.01)"
    )
    # As entry.call has it: one that comes when the run has ended changes nothing.
    parent = start_parent(child(tmp_path, body), before=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
    wait_for(tmp_path / "starts.early")
    parent.send_signal(signal.SIGUSR1)  # the default action would end the child
    (tmp_path / "starts.go").touch()
    while parent.poll() is None:  # until the parent has heard that it can save
        parent.send_signal(signal.SIGUSR1)
        time.sleep(0.02)
    assert parent.returncode == 65, parent.communicate()
    assert (tmp_path / "starts").read_text() == "x"


def test_an_unanswered_signal_is_followed_by_sigkill(tmp_path):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(starts + '.ready', 'w')\ntime.sleep(600)"
    parent = start_parent(child(tmp_path, body), seconds=0.3)
    wait_for(tmp_path / "starts.ready")
    parent.terminate()
    _, err = parent.communicate(timeout=30)
    assert parent.returncode == exits.TRY_AGAIN
    assert "no answer" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
def test_a_signal_ends_the_wait_for_a_restart(tmp_path, number, code):
    parent = start_parent(child(tmp_path, "sys.exit(42)"), backoff=600.0)
    assert parent.stderr is not None
    assert "restart 1 of 3" in parent.stderr.readline()
    parent.send_signal(number)
    assert parent.wait(30) == code
    assert (tmp_path / "starts").read_text() == "x"


def test_a_child_without_a_heartbeat_is_killed(tmp_path, capfd):
    body = (
        "from convoy import heartbeat, supervise\nsupervise.follow_parent()\n"
        "with heartbeat.beating(): time.sleep(2.5)\n"  # longer than the timeout, but alive
        "open(starts + '.worked', 'w')\n"
        "time.sleep(600)"
    )
    assert supervise.run(child(tmp_path, body), hang_timeout=2.0) == exits.TRY_AGAIN
    assert (tmp_path / "starts.worked").exists()
    assert "no sign of life for --hang_timeout=2 s" in capfd.readouterr().err


# C code that keeps Python's lock: no handler and no thread of Python's runs any more.
STUCK = (
    "import ctypes\n"
    "from convoy import supervise\n"
    "supervise.follow_parent()\n"
    "def stuck_in_c():\n"
    "    ctypes.PyDLL(None).sleep(600)\n"
)


def test_a_child_that_hangs_in_c_shows_where(tmp_path, capfd):
    body = "import threading\ndef beside(): time.sleep(600)\nthreading.Thread(target=beside, daemon=True).start()\n"
    assert supervise.run(child(tmp_path, body + STUCK + "stuck_in_c()"), hang_timeout=2.0) == exits.TRY_AGAIN
    sentence, _, dump = capfd.readouterr().err.partition("Where its threads are:\n")
    assert "no sign of life" in sentence
    assert "in stuck_in_c" in dump
    assert "in beside" in dump, "all threads"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 42), (signal.SIGINT, 130)])
def test_a_signal_while_a_hanging_child_is_ended_prevents_a_restart(tmp_path, number, code):
    # It answers neither the question where its threads are nor the signal, so there is time for both before it is killed.
    deaf = "for n in (signal.SIGTERM, signal.SIGINT, signal.SIGVTALRM): signal.pthread_sigmask(signal.SIG_BLOCK, [n])\n"
    body = deaf + STUCK + "stuck_in_c()"
    parent = start_parent(child(tmp_path, body), hang_timeout=2.0)
    assert parent.stderr is not None
    assert "no sign of life" in parent.stderr.readline()
    parent.send_signal(number)
    assert parent.wait(30) == code
    assert (tmp_path / "starts").read_text() == "x", "asked to leave: no restart"


def test_an_abort_in_c_shows_where(tmp_path, capfd):
    body = "from convoy import supervise\nsupervise.follow_parent()\ndef lost_peer(): os.abort()\nlost_peer()"
    assert supervise.run(child(tmp_path, body)) == exits.TRY_AGAIN
    assert "in lost_peer" in capfd.readouterr().err


def test_a_child_that_dies_after_its_work_has_succeeded(tmp_path):
    body = (
        "from convoy import heartbeat, supervise\nsupervise.follow_parent()\nheartbeat.beat(heartbeat.DONE)\ntime.sleep(0.3)\n"
        "os.abort()"
    )
    assert supervise.run(child(tmp_path, body)) == exits.OK


@pytest.mark.parametrize("busy", ["time.sleep(600)", "stuck_in_c()"])
def test_a_run_does_not_outlive_its_parent(tmp_path, busy):
    body = "open(starts + '.pid', 'w').write(str(os.getpid()))\nos.rename(starts + '.pid', starts + '.ready')\n" + busy
    parent = start_parent(child(tmp_path, STUCK + body))
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
