"""Requests to leave: signals and the notices of the metadata server, and what becomes of the two together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from convoy.trainer.processes import preemption
from convoy.trainer.processes.signals import Signals
from metadata import MAINTENANCE, PREEMPTED, metadata_server
from support import free_ports, hear_hangups


@pytest.mark.parametrize(
    ("variables", "product", "address"),
    [
        ({}, "Google Compute Engine\n", "metadata.google.internal"),
        ({}, "Google\n", "metadata.google.internal"),
        ({}, "Standard PC\n", ""),
        ({}, None, ""),
        ({"GCE_METADATA_HOST": "127.0.0.1:80"}, None, "127.0.0.1:80"),
        ({"GCE_METADATA_IP": "127.0.0.2"}, "Google\n", "127.0.0.2"),
        ({"GCE_METADATA_HOST": "one", "GCE_METADATA_IP": "two"}, None, "one"),
        ({"GCE_METADATA_HOST": "", "GCE_METADATA_IP": ""}, None, ""),
    ],
)
def test_where_the_metadata_server_is(tmp_path, variables, product, address):
    file = tmp_path / "product_name"
    if product:
        file.write_text(product)
    assert preemption.server(variables, file) == address


def test_nobody_asks_where_there_is_no_server(monkeypatch):
    monkeypatch.setattr(preemption, "server", lambda: "")
    before = threading.enumerate()
    preemption.watch(lambda notice: None)
    assert threading.enumerate() == before


class Heard:
    """The notices that came."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.event = threading.Event()

    def __call__(self, notice: str) -> None:
        self.notices.append(notice)
        self.event.set()


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The pauses that were due, none of which is made."""
    pauses: list[float] = []
    monkeypatch.setattr(preemption, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_one_question_waits_for_each_kind_of_notice(monkeypatch, slept):
    heard = Heard()
    with metadata_server() as server:
        monkeypatch.setenv("GCE_METADATA_HOST", server.address)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody listens: it must not be used
        preemption.watch(heard)
        server.wait_for_question(PREEMPTED, "etag-FALSE")
        server.wait_for_question(MAINTENANCE, "etag-NONE")
        assert len(server.asked) == 4, "what is so now, then a question each that waits"
        server.announce(MAINTENANCE, "MIGRATE_ON_HOST_MAINTENANCE")
        server.wait_for_question(MAINTENANCE, "etag-MIGRATE_ON_HOST_MAINTENANCE")
        assert not heard.notices
        server.announce(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE")
        assert heard.event.wait(60)
        heard.event.clear()
        server.announce(PREEMPTED, "TRUE")
        assert heard.event.wait(60)
    assert heard.notices == ["instance/maintenance-event=TERMINATE_ON_HOST_MAINTENANCE", "instance/preempted=TRUE"]


BROKEN = [
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nTRUE",
    b"no HTTP at all\r\n\r\n",
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
    b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
]


def test_a_broken_server_is_asked_ever_more_rarely_and_believed_once_it_works(monkeypatch, slept):
    monkeypatch.setattr(preemption, "_LEAVE", {PREEMPTED: "TRUE"})
    heard = Heard()
    answers = [*BROKEN, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nTRUE"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
        preemption.watch(heard)
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)
        assert heard.event.wait(60)
    assert heard.notices == ["instance/preempted=TRUE"]
    assert slept == [1, 2, 4, 8, 10, 10]


def test_a_server_that_is_not_there_is_asked_again(monkeypatch):
    monkeypatch.setattr(preemption, "_LEAVE", {PREEMPTED: "TRUE"})
    refused, opened = threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        refused.set()
        opened.wait(60)

    monkeypatch.setattr(preemption, "time", SimpleNamespace(sleep=pause))
    heard = Heard()
    (port,) = free_ports(1)
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
    preemption.watch(heard)
    assert refused.wait(60)
    with socket.create_server(("127.0.0.1", port)) as server:
        opened.set()
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nTRUE")
        assert heard.event.wait(60)


def sentence(received: signal.Signals | None, notice: str) -> tuple[int, str]:
    signals = Signals()
    signals.received, signals.notice = received, notice
    error = signals.leave("step 40")
    return error.code, str(error)


def test_the_end_says_who_asked():
    by_notice = f"asked to leave by the metadata server ({PREEMPTED}=TRUE), saved at step 40."
    assert sentence(None, f"{PREEMPTED}=TRUE") == (42, by_notice)
    assert sentence(signal.SIGTERM, f"{PREEMPTED}=TRUE") == (42, by_notice)
    code, text = sentence(signal.SIGTERM, "")
    assert (code, text) == (42, "asked to leave by SIGTERM, saved at step 40.")
    assert sentence(None, "")[1].startswith("asked to leave by another process of the run, saved at step 40")
    assert sentence(signal.SIGINT, "")[0] == sentence(signal.SIGINT, f"{PREEMPTED}=TRUE")[0] == 130


PROGRAM = """
import os, signal, sys, time
from convoy.trainer.processes.signals import Signals
signals = Signals()
signals.install()
def send(number):
    os.kill(os.getpid(), number)
    while signals.received is None:
        time.sleep(0.01)
"""


def printed(body: str, code: int = 0) -> str:
    """What a process with signals of its own prints, that ends with this code."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + body],
        capture_output=True, text=True, check=False, timeout=60, preexec_fn=hear_hangups,
    )  # fmt: skip
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_a_signal_after_a_notice_is_the_first_signal_and_ctrl_c_then_the_second():
    out = printed(
        "signals.graceful = True\n"
        "signals.on_notice('instance/preempted=TRUE')\n"
        "assert signals.asked and signals.received is None\n"
        "send(signal.SIGTERM)\n"
        "signals.on_notice('instance/maintenance-event=TERMINATE_ON_HOST_MAINTENANCE')\n"
        "print(signals.leave('step 1'), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(600)",
        code=130,
    )
    assert out.startswith("asked to leave by the metadata server (instance/preempted=TRUE), saved at step 1")


def test_a_notice_after_a_signal_changes_nothing():
    out = printed(
        "signals.graceful = True\n"
        "send(signal.SIGTERM)\n"
        "signals.on_notice('instance/preempted=TRUE')\n"
        "print(signals.leave('step 1'), flush=True)"
    )
    assert out.startswith("asked to leave by SIGTERM")


def test_a_terminal_or_a_scheduler_may_ask_several_times():
    """A terminal that closes, a shell and a scheduler send the same to each process, and its parent passes it on."""
    out = printed(
        "signals.graceful = True\n"
        "send(signal.SIGHUP)\n"
        "for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "while not signals.save_asked: time.sleep(0.01)\n"  # one thread takes them in their order
        "print(signals.leave('step 1'), flush=True)"
    )
    assert out.startswith("asked to leave by SIGHUP, saved at step 1")


def test_a_request_to_save_ends_nothing():
    printed(
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "time.sleep(0.1)\n"
        "assert not signals.save_asked, 'nothing to save'\n"
        "signals.graceful = True\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "while not signals.save_asked: time.sleep(0.01)\n"
        "assert not signals.asked"
    )


def test_a_notice_leaves_at_once_while_there_is_nothing_to_save():
    out = printed("signals.on_notice('instance/preempted=TRUE')\ntime.sleep(600)", code=42)
    assert out == "convoy: asked to leave by the metadata server (instance/preempted=TRUE), with nothing to save.\n"
