"""The store in a bucket, before the real emulator and whatever networks do to it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

from convoy import exits
from convoy.store import gcs_bucket, gcs_lease, open_store
from fault_proxy import RANDOM, FaultProxy
from support import QUICK, REPOSITORY, assert_same_bits, records_of

LARGE = bytes(np.random.default_rng(1).integers(0, 256, 9 * 2**20, dtype=np.uint8))  # more than is sent in one request
SESSION = "uploadType=resumable(?!.*upload_id)"  # the request that opens one for a large object
OBJECTS = "/o($|[?/])"  # of any request about objects; the library asks for the bucket's own metadata on the side
MEDIA = "alt=media"


@pytest.fixture
def store(proxy: FaultProxy, place: str):
    return open_store(place)


def objects(store) -> list[str]:
    """All objects of a run directory, with those that `names` hides."""
    return [blob.name.removeprefix(store._root) for blob in store._bucket.entries(store._root)]


def no_patience(monkeypatch, kind: str) -> float:
    """Where answers come late: how many seconds are too late from now on."""
    if kind == "delay":
        monkeypatch.setattr(gcs_bucket, "TIMEOUT_SECONDS", (1.0, 0.3))
    return 0.4


# Faults that pass.


@pytest.mark.parametrize("kind", RANDOM)
def test_a_fault_that_passes_is_survived(store, proxy, kind, tmp_path, monkeypatch):
    late = no_patience(monkeypatch, kind)

    def faulty(method, path):
        proxy.calm()
        proxy.fault(kind, method, path, times=2, seconds=late)

    faulty("POST", OBJECTS)
    generation = store.put("a/small", b"small")
    assert proxy.count("POST", OBJECTS) >= 2 or kind == "flip"
    faulty("POST", OBJECTS)
    assert store.claim("a/claimed", b"ours")
    store.append("log", "one\n")
    faulty("POST", OBJECTS)
    store.flush()
    for path in (OBJECTS, MEDIA):
        if kind == "flip" and path == OBJECTS:
            continue  # a listing has no checksum
        faulty("GET", path)
        assert store.get("a/small", generation) == b"small"
        assert proxy.count("GET") >= 4
        faulty("GET", path)
        assert store.get("log") == b"one\n"
        faulty("GET", path)
        store.fetch("a/small", tmp_path / "small")
        assert (tmp_path / "small").read_bytes() == b"small"
    if kind != "flip":
        faulty("GET", OBJECTS)
        assert store.names() == ["a/claimed", "a/small", "log"]
    faulty("DELETE", OBJECTS)
    store.remove("a")
    assert proxy.count("DELETE") >= 3
    proxy.calm()
    assert store.names() == ["log"]


@pytest.mark.parametrize("kind", ["refuse", "reset_request", "503"])
def test_a_large_upload_that_is_cut_goes_on(store, proxy, kind, monkeypatch):
    monkeypatch.setattr(gcs_bucket, "CHUNK_BYTES", 5 * 2**20)
    proxy.fault(kind, "PUT", "upload_id", times=2)
    generation = store.put("large", memoryview(LARGE))
    assert proxy.count("POST", SESSION) == 1, "not begun anew"
    assert proxy.count("PUT", "upload_id") == 4, "two chunks and two that were cut"
    assert store.get("large", generation) == LARGE


@pytest.mark.parametrize("kind", ["lost", "reset_answer", "delay", "flip_request"])
def test_a_large_upload_that_went_wrong_is_begun_anew(store, proxy, kind, monkeypatch):
    monkeypatch.setattr(gcs_bucket, "CHUNK_BYTES", 5 * 2**20)
    proxy.fault(kind, "PUT", "upload_id", seconds=no_patience(monkeypatch, kind))
    assert store.claim("large", bytearray(LARGE))
    assert store.get("large") == LARGE
    assert not store.claim("large", b"another")


def test_what_was_damaged_on_its_way_up_is_sent_again(store, proxy):
    proxy.fault("flip_request", "POST", "uploadType=multipart", times=2)
    generation = store.put("a", bytes(10_000))
    assert proxy.count("POST", "uploadType=multipart") == 3
    assert store.get("a", generation) == bytes(10_000)


# Faults that do not pass.


@pytest.mark.parametrize("kind", ["refuse", "reset_request", "503", "429", "408", "delay"])
def test_a_storage_that_stays_away_is_worth_another_start(store, proxy, kind, monkeypatch):
    monkeypatch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.3)
    proxy.fault(kind, times=1000, seconds=no_patience(monkeypatch, kind))
    for call, verb, name in (
        (lambda: store.put("a/b", b""), "write", "a/b"),
        (lambda: store.put("large", LARGE), "write", "large"),
        (lambda: store.get("a/b", 1), "read", "a/b"),
        (lambda: store.names("a"), "list", "a/"),
    ):
        with pytest.raises(exits.TryAgain) as refusal:
            call()
        sentence = str(refusal.value)
        assert sentence.startswith(f"cannot {verb} {store.url}/{name} now: ")
        assert sentence.endswith("; the same command will continue.")
        assert "upload_id" not in sentence, "who knows the address of a session can write"


def test_a_storage_that_is_not_there_is_worth_another_start(store, proxy, monkeypatch):
    monkeypatch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.3)
    proxy.stop()
    with pytest.raises(exits.TryAgain, match="connection refused; the same command will continue"):
        store.put("a", b"")


@pytest.mark.parametrize("kind", ["truncate", "flip", "reset_answer"])
def test_an_object_that_never_arrives_whole_is_never_given(store, proxy, kind, monkeypatch, tmp_path):
    generation = store.put("a/b", b"what was written")
    monkeypatch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.3)
    proxy.fault(kind, "GET", MEDIA, times=1000)
    for call in (
        lambda: store.get("a/b"),
        lambda: store.get("a/b", generation),
        lambda: store.fetch("a/b", tmp_path / "b"),
    ):
        with pytest.raises(exits.TryAgain, match=f"cannot read {store.url}/a/b now: "):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "says"),
    [("401", "no valid credentials.*gcloud auth application-default login"),
     ("403", "bucket bucket is missing; check with `gcloud storage buckets describe gs://bucket`")],
)  # fmt: skip
def test_a_refusal_names_the_permission_and_the_remedy(store, proxy, kind, says):
    store.put("a", b"")
    proxy.fault(kind, path=OBJECTS, times=1000)
    for call, permission in (
        (lambda: store.put("a", b""), "create"),
        (lambda: store.put("large", LARGE), "create"),
        (lambda: store.get("a", 1), "get"),
        (lambda: store.names(), "list"),
        (lambda: store._bucket.delete({store._root + "a": 1}), "delete"),
    ):
        with pytest.raises(exits.CannotRun, match=says) as refusal:
            call()
        assert f"storage.objects.{permission}" in str(refusal.value)


def test_any_other_refusal_says_what_the_server_says(store, proxy):
    proxy.fault("400", path=OBJECTS, times=3)
    for call in (lambda: store.put("a", b""), lambda: store.put("a", LARGE), lambda: store.names()):
        with pytest.raises(exits.CannotRun, match="HTTP 400, a request that no server understands; choose another"):
            call()


def test_a_bucket_that_is_not_there_is_a_sentence(place, tmp_path):
    store = open_store("gs://no-such-bucket/run")
    for call in (
        lambda: store.put("a", b""),
        lambda: store.put("a", LARGE),
        lambda: store.claim("a", b""),
        lambda: store.get("a"),
        lambda: store.get("a", 1),
        lambda: store.fetch("a", tmp_path / "a"),
        lambda: store.names(),
        lambda: store.remove("a"),
        lambda: store.locked().__enter__(),
    ):
        with pytest.raises(
            exits.CannotRun, match="there is no bucket no-such-bucket; check its name with `gcloud storage"
        ):
            call()


def test_without_credentials_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(exits.CannotRun, match="no valid credentials.*run `gcloud auth application-default login`"):
        open_store("gs://bucket/run")


def test_the_url_is_read_as_people_write_it(place):
    assert open_store("gs://bucket/a//b/").url == "gs://bucket/a/b"
    assert open_store("gs://bucket").url == open_store("gs://bucket/").url == "gs://bucket"
    for bad in ("gs://", "gs:///run", "gs://B/run", "gs://a b/run"):
        with pytest.raises(exits.CannotRun, match=f"{bad}: .* is no name of a bucket"):
            open_store(bad)


def test_a_bucket_alone_can_be_a_run_directory(emulator, place):
    emulator.create("whole-bucket")
    store = open_store("gs://whole-bucket")
    with store.locked():
        assert store.foreign() == ""
        store.put("a/b", b"1")
        store.append("log", "line\n")
        store.close()
        assert store.names() == ["a/b", "log"]
        assert store.names("a") == ["a/b"]
    store.remove("a")
    store.remove("log")


def test_the_ground_floor_starts_without_the_client():
    program = "import sys, convoy.cli, convoy.store; print([m for m in sys.modules if m.startswith('google.cloud')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Objects.


def test_a_generation_is_one_writing(store):
    first, second = store.put("a", b"first"), store.put("a", b"second")
    assert first != second
    assert store.get("a", second) == store.get("a") == b"second"
    with pytest.raises(FileNotFoundError):
        store.get("a", first)


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(store, proxy, place, monkeypatch):
    store.put("a", b"old")
    inner, replaced = gcs_bucket.Bucket._copy, []

    def slow(bucket, blob, file, again):
        if not replaced:
            replaced.append(open_store(place).put("a", b"new"))
        inner(bucket, blob, file, again)

    monkeypatch.setattr(gcs_bucket.Bucket, "_copy", slow)
    assert store.get("a") == b"new"


@pytest.mark.parametrize(("size", "copies"), [(2**21, 3), (2**21 + 8, 0), (2**25 - 8, 0), (2**25, 0), (2**25 + 8, 0)])
def test_a_large_object_is_sent_as_it_lies(place, size, copies):
    store, data = open_store(place), np.zeros(size // 8)
    tracemalloc.start()
    try:
        assert store.put("large", memoryview(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < copies * size + 2**20
    assert store._bucket.download(f"{store._root}large")[0] == data.tobytes()


def test_threads_may_write_at_once(store, proxy, caplog):
    proxy.fault("503", times=20)
    threads = [threading.Thread(target=store.put, args=(f"f/{i}", b"%d" % i)) for i in range(20)]
    threads += [threading.Thread(target=lambda: (store.append("log", "line\n"), store.flush())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not caplog.records, "no complaints about the number of connections"
    assert [store.get(f"f/{i}") for i in range(20)] == [b"%d" % i for i in range(20)]
    assert store.get("log") == open_store(store.url).get("log") == b"line\n" * 10


# Answers that are lost.


@pytest.mark.parametrize("kind", ["lost", "reset_answer", "truncate"])
def test_a_claim_is_won_though_its_answer_is_lost(store, proxy, kind):
    proxy.fault(kind, "POST", OBJECTS)
    assert store.claim("winner", b"writer 1")
    assert proxy.count("POST", OBJECTS) == 2
    assert not store.claim("winner", b"writer 2")


def test_a_claim_is_lost_to_one_that_came_between(store, proxy, place, monkeypatch):
    open_store(place).put("winner", b"writer 2")
    proxy.fault("503", "POST", OBJECTS)
    assert not store.claim("winner", b"writer 1")
    assert store.get("winner") == b"writer 2"


def test_a_segment_is_ours_though_no_answer_came_in_time(store, proxy, monkeypatch):
    store.append("log", "one\n")
    with monkeypatch.context() as patch:
        patch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.1)
        proxy.fault("lost", "POST", OBJECTS, times=1000)
        with pytest.raises(exits.TryAgain):
            store.flush()
    proxy.calm()
    store.append("log", "two\n")
    store.flush()
    assert store.get("log") == open_store(store.url).get("log") == b"one\ntwo\n"


def test_a_rewrite_leaves_out_what_may_have_arrived(store, proxy, monkeypatch):
    store.append("log", "one\n")
    with monkeypatch.context() as patch:
        patch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.1)
        proxy.fault("lost", "POST", OBJECTS, times=1000)
        with pytest.raises(exits.TryAgain):
            store.flush()
    proxy.calm()
    store.rewrite("log", "1\n")
    assert store.get("log") == open_store(store.url).get("log") == b"1\n"
    assert objects(store) == ["log"]


def test_a_rewrite_is_ours_though_its_answer_is_lost(store, proxy):
    store.append("log", "one\ntwo\n")
    store.flush()
    proxy.fault("lost", "POST", OBJECTS)
    store.rewrite("log", "one\n")
    store.append("log", "2\n")
    proxy.fault("lost", "POST", OBJECTS, times=2)
    store.close()
    assert store.get("log") == b"one\n2\n"
    assert objects(store) == ["log"]


# Logs.


def test_the_next_number_is_asked_for_once(store, proxy):
    for _ in range(3):
        store.append("log", "line\n")
        store.flush()
    assert proxy.count("GET", OBJECTS) == 1
    assert objects(store) == [f"log.segments/{number:06d}" for number in (1, 2, 3)]


def test_a_torn_line_keeps_to_itself(store):
    store.put("log", b"whole\ntor")
    store.append("log", "next\n")
    store.flush()
    assert store.get("log") == b"whole\ntor\nnext\n"
    store.close()
    assert store.get("log") == b"whole\ntor\nnext\n"


def test_another_writer_of_a_log_is_noticed(store, place):
    store.append("log", "1\n")
    store.flush()
    other = open_store(place)
    other.append("log", "2\n")
    other.flush()
    store.append("log", "3\n")
    with pytest.raises(exits.CannotRun, match=f"another process has written {place}/log.segments/000002; only one may"):
        store.flush()
    other.close()
    with pytest.raises(exits.CannotRun, match=f"another process has written {place}/log; only one may"):
        store.rewrite("log", "")
    assert other.get("log") == b"1\n2\n"


@pytest.mark.parametrize("change", ["close", "rewrite"])
def test_a_death_at_any_point_leaves_a_log_right(place, change, monkeypatch):
    class Death(BaseException):
        pass

    before, after = b"a\nb\nc\n", b"a\nb\nc\n" if change == "close" else b"A\n"
    for survived in range(100):
        store = open_store(f"{place}/{survived}")
        for line in ("a\n", "b\n"):
            store.append("log", line)
            store.flush()
            if line == "a\n":
                store.close()
        store.append("log", "c\n")
        store.flush()
        left = [survived]

        def dying(inner, left=left):
            def request(*arguments, **named):
                if left[0] == 0:
                    raise Death
                left[0] -= 1
                return inner(*arguments, **named)

            return request

        seen = open_store(store.url)
        try:
            with monkeypatch.context() as patch:
                for name in ("_equal", "_delete", "_list", "_content"):
                    patch.setattr(gcs_bucket.Bucket, name, dying(getattr(gcs_bucket.Bucket, name)))
                patch.setattr(
                    "google.cloud.storage.Blob.upload_from_file",
                    dying(store._bucket._bucket.blob("").__class__.upload_from_file),
                )
                store.close() if change == "close" else store.rewrite("log", "A\n")
        except Death:
            # One that died within left what was before or what comes after, and so does one that swept behind it.
            assert seen.get("log") in (before, after)
            found = seen.get("log")
            seen.sweep()
            assert seen.get("log") == found
            seen.append("log", "d\n")
            seen.close()
            assert open_store(store.url).get("log") == found + b"d\n"
            assert objects(seen) == ["log"]
        else:
            assert seen.get("log") == after
            assert survived >= 2
            return
    pytest.fail("it never ends")


# One writer.


@pytest.fixture
def hasty(monkeypatch):
    """Leases that run out soon."""
    monkeypatch.setattr(gcs_lease, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(gcs_lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(gcs_lease, "LOOK_SECONDS", 0.05)


def test_a_writer_that_lives_is_left_alone(place, hasty, capfd):
    with open_store(place).locked():
        for _ in range(2):
            with pytest.raises(
                exits.CannotRun, match=f"--run_dir={place}: another process is training there now; wait"
            ):
                open_store(place).locked().__enter__()
    assert capfd.readouterr().err.count("watching for") == 2
    assert objects(open_store(place)) == [], "given back"


def test_renewals_go_on_whatever_becomes_of_one(proxy, place, hasty, monkeypatch):
    store = open_store(place)
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


def test_a_renewal_whose_answer_is_lost_for_good_is_our_own(proxy, place, hasty):
    store = open_store(place)
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


def test_one_that_was_taken_over_writes_nothing_any_more(place, hasty, monkeypatch):
    store = open_store(place)
    store.put("a", b"old")
    store.append("log", "old\n")
    store.flush()
    with store.locked(), contextlib.ExitStack() as heir:
        with monkeypatch.context() as patch:
            patch.setattr(store._lease, "_renew", lambda: None)  # nothing is heard of it for a while
            heir.enter_context(open_store(place).locked())
        for call in (
            lambda: store.put("a", b"new"),
            lambda: store.claim("b", b"new"),
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
from convoy import exits
from convoy.store import gcs_bucket, gcs_lease, open_store
gcs_lease.LEASE_SECONDS, gcs_lease.RENEW_SECONDS, gcs_lease.LOOK_SECONDS = 3.0, 0.2, 0.1

def main():
    store = open_store(sys.argv[1])
    with store.locked():
        print("locked", flush=True)
        for line in sys.stdin:
            exec(line)
            print("done", flush=True)

exits.call(main)
"""


class Writer:
    """A process that holds the lease and carries out lines of Python."""

    def __init__(self, place: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, place],
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


def test_of_two_writers_one_wins_and_the_other_damages_nothing(place):
    both = [Writer(place), Writer(place)]
    first = min(both, key=lambda writer: 0 if writer.process.stdout.readline() == "locked\n" else 1)
    (second,) = [writer for writer in both if writer is not first]
    said = second.ends(exits.CANNOT_RUN)
    assert "another process is training there now" in said
    assert "Traceback" not in said
    first.tell("store.put('a', b'1'); store.append('log', 'line\\n'); store.close()")
    first.expect("done")
    first.ends(0)
    assert objects(open_store(place)) == ["a", "log"]


def test_a_zombie_changes_nothing(place):
    zombie = Writer(place)
    zombie.expect("locked")
    zombie.tell("store.put('a', b'zombie'); store.append('log', '1\\n'); store.flush()")
    zombie.expect("done")
    zombie.process.send_signal(signal.SIGSTOP)
    heir = Writer(place)
    heir.expect("locked")
    heir.tell("store.append('log', '2\\n'); store.close(); store.put('a', b'heir')")
    heir.expect("done")
    zombie.process.send_signal(signal.SIGCONT)
    zombie.tell("store.put('a', b'zombie')")
    assert "another process has taken over this run directory" in zombie.ends(exits.CANNOT_RUN)
    heir.tell("store.append('log', '3\\n'); store.close()")
    heir.expect("done")
    assert "is held by process" in heir.ends(0)
    store = open_store(place)
    assert store.get("a") == b"heir"
    assert store.get("log") == b"1\n2\n3\n"
    assert objects(store) == ["a", "log"]


def test_one_that_is_killed_while_it_uploads_leaves_the_old_object(proxy, place, monkeypatch):
    monkeypatch.setenv("CONVOY_WRITER", "the parent of both")
    writer = Writer(place)
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
    store = open_store(place)
    assert store.get("large") == b"old"
    started = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda seconds: started.set())
    with store.locked():
        assert not started.is_set(), "a child of the same parent does not wait"
        store.sweep()
        assert objects(store) == [".lock", "large"]


def fault_process(upstream: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The proxy as a process of its own, and its URL."""
    program = [sys.executable, str(REPOSITORY / "tests" / "fault_proxy.py"), f"--upstream={upstream}", *options]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


@pytest.mark.thorough
def test_a_run_in_a_bucket_ends_like_one_in_a_folder(emulator, place, monkeypatch, convoy, tmp_path):
    assert convoy("train", *QUICK, f"--run_dir={tmp_path}/local").code == exits.OK
    process, url = fault_process(emulator.host, "--seed=7", "--rate=0.1", "--seconds=0.5")
    try:
        outcome = convoy("train", *QUICK, f"--run_dir={place}", STORAGE_EMULATOR_HOST=url)
        assert outcome.code == exits.OK, outcome
        again = convoy("train", *QUICK, f"--run_dir={place}", STORAGE_EMULATOR_HOST=url)
        assert again.code == exits.OK, again
    finally:
        process.kill()
        process.wait()
    store = open_store(place)
    for name in store.names():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        store.fetch(name, tmp_path / "copy" / name)
    assert_same_bits(tmp_path / "local", tmp_path / "copy")
    assert records_of(tmp_path / "local") == records_of(tmp_path / "copy")
    assert [name for name in objects(store) if "segments" in name or "lock" in name] == []


@pytest.mark.thorough
def test_a_storm_of_every_fault_changes_no_result(emulator, place, monkeypatch):
    process, url = fault_process(emulator.host, "--seed=4", "--rate=0.2", "--seconds=0.5")
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_store(place)
        with store.locked():
            for number in range(40):
                generation = store.put("a", b"%d" % number)
                assert store.get("a", generation) == b"%d" % number
                assert store.claim(f"c/{number}", b"%d" % number)
                store.append("log", f"{number}\n")
                store.flush()
            assert store.get("log").decode().split() == [str(number) for number in range(40)]
            store.close()
            assert store.get("log").decode().split() == [str(number) for number in range(40)]
            assert len(store.names("c")) == 40
            store.remove("c")
            assert store.names() == ["a", "log"]
    finally:
        process.kill()
        process.wait()
