"""The lease by which a run directory in a bucket has one writer."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from buckets import OBJECTS, no_patience, objects
from convoy import exits
from convoy.store import gcs_lease, open_store

pytestmark = pytest.mark.slow


@pytest.fixture
def hasty(monkeypatch):
    """Leases that run out soon."""
    monkeypatch.setattr(gcs_lease, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(gcs_lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(gcs_lease, "LOOK_SECONDS", 0.05)


def test_a_writer_that_lives_is_left_alone(bucket, hasty, capfd):
    with open_store(bucket).locked():
        for _ in range(2):
            with pytest.raises(
                exits.CannotRun, match=f"--run_dir={bucket}: another process is training there now; wait"
            ):
                open_store(bucket).locked().__enter__()
    assert capfd.readouterr().err.count("watching for") == 2
    assert objects(open_store(bucket)) == [], "given back"


def test_renewals_go_on_whatever_becomes_of_one(proxy, bucket, hasty, monkeypatch):
    store = open_store(bucket)
    with store.locked():
        for kind in ("lost", "503", "refuse", "delay"):
            proxy.calm()
            proxy.fault(kind, "POST", OBJECTS, times=2, seconds=no_patience(monkeypatch, kind))
            limit = time.monotonic() + 20
            while proxy.count("POST", OBJECTS) < 5:
                assert time.monotonic() < limit
                time.sleep(0.02)
            store.put("a", kind.encode())
    assert objects(store) == ["a"]


def test_a_renewal_whose_answer_is_lost_for_good_is_our_own(proxy, bucket, hasty):
    store = open_store(bucket)
    with store.locked():
        proxy.fault("lost", "POST", OBJECTS)
        proxy.fault(
            "503", "GET", OBJECTS, times=30
        )  # nor can it be read what became of it, within the time of a renewal
        limit = time.monotonic() + 20
        while proxy.count("GET", OBJECTS) <= 30:
            assert time.monotonic() < limit
            time.sleep(0.02)
        store.put("a", b"2")
    assert store.get("a") == b"2"


def test_a_writer_that_was_taken_over_writes_nothing_any_more(bucket, hasty, monkeypatch):
    store = open_store(bucket)
    store.put("a", b"old")
    store.append("log", "old\n")
    store.flush()
    with store.locked(), contextlib.ExitStack() as heir:
        with monkeypatch.context() as patch:
            patch.setattr(store._lease, "_renew", lambda: None)  # nothing is heard of it for a while
            heir.enter_context(open_store(bucket).locked())
        for call in (
            lambda: store.put("a", b"new"),
            lambda: store.put_if_absent("b", b"new"),
            lambda: (store.append("log", "new\n"), store.flush()),
            lambda: store.rewrite("log", "new\n"),
            lambda: store.remove("a"),
            lambda: store.close(),
        ):
            with pytest.raises(exits.CannotRun, match="another process has taken over this run directory"):
                call()
        assert objects(store) == [".lock", "a", "log.segments/000001"]
    assert objects(store) == ["a", "log.segments/000001"]
    assert store.get("a") == b"old"


PROGRAM = """
import sys, threading
from convoy import entry
from convoy.store import gcs_bucket, gcs_lease, open_store
gcs_lease.LEASE_SECONDS, gcs_lease.RENEW_SECONDS, gcs_lease.LOOK_SECONDS = 3.0, 0.2, 0.1

def main():
    store = open_store(sys.argv[1])
    with store.locked():
        print("locked", flush=True)
        for line in sys.stdin:
            exec(line)
            print("done", flush=True)

entry.call(main)
"""


class Writer:
    """A process that holds the lease and carries out lines of Python."""

    def __init__(self, bucket: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, bucket],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def expect(self, word: str) -> None:
        assert self.process.stdout.readline() == word + "\n", self.process.communicate()

    def ends(self, code: int) -> str:
        """What it said on stderr."""
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == code, said
        return said


def test_of_two_writers_one_wins_and_the_other_damages_nothing(bucket):
    both = [Writer(bucket), Writer(bucket)]
    first = min(both, key=lambda writer: 0 if writer.process.stdout.readline() == "locked\n" else 1)
    (second,) = [writer for writer in both if writer is not first]
    said = second.ends(exits.CANNOT_RUN)
    assert "another process is training there now" in said
    assert "Traceback" not in said
    first.tell("store.put('a', b'1'); store.append('log', 'line\\n'); store.close()")
    first.expect("done")
    first.ends(0)
    assert objects(open_store(bucket)) == ["a", "log"]


def test_a_zombie_changes_nothing(bucket):
    zombie = Writer(bucket)
    zombie.expect("locked")
    zombie.tell("store.put('a', b'zombie'); store.append('log', '1\\n'); store.flush()")
    zombie.expect("done")
    zombie.process.send_signal(signal.SIGSTOP)
    heir = Writer(bucket)
    heir.expect("locked")
    heir.tell("store.append('log', '2\\n'); store.close(); store.put('a', b'heir')")
    heir.expect("done")
    zombie.process.send_signal(signal.SIGCONT)
    zombie.tell("store.put('a', b'zombie')")
    assert "another process has taken over this run directory" in zombie.ends(exits.CANNOT_RUN)
    heir.tell("store.append('log', '3\\n'); store.close()")
    heir.expect("done")
    assert "is held by process" in heir.ends(0)
    store = open_store(bucket)
    assert store.get("a") == b"heir"
    assert store.get("log") == b"1\n2\n3\n"
    assert objects(store) == ["a", "log"]


def test_a_writer_killed_while_it_uploads_leaves_the_old_object(proxy, bucket, monkeypatch):
    monkeypatch.setenv("CONVOY_WRITER", "the parent of both")
    writer = Writer(bucket)
    writer.expect("locked")
    writer.tell("store.put('large', b'old')")
    writer.expect("done")
    proxy.fault("delay", "PUT", "upload_id", times=1, seconds=1.0)
    writer.tell("store.put('large', bytes(20_000_000))")
    limit = time.monotonic() + 30
    while not proxy.count("PUT", "upload_id"):
        assert time.monotonic() < limit
        time.sleep(0.02)
    writer.process.kill()
    writer.ends(-signal.SIGKILL)
    store = open_store(bucket)
    assert store.get("large") == b"old"
    started = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda seconds: started.set())
    with store.locked():
        assert not started.is_set(), "a child of the same parent does not wait"
        store.remove_partials()
        assert objects(store) == [".lock", "large"]
