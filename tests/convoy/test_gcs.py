"""The store in a bucket, before the real emulator and whatever networks do to it."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from buckets import OBJECTS, faulty, no_patience
from convoy import exits
from convoy.store import gcs_bucket, open_store
from fault_proxy import RANDOM

pytestmark = pytest.mark.slow

LARGE = bytes(np.random.default_rng(1).integers(0, 256, 9 * 2**20, dtype=np.uint8))  # more than is sent in one request
SESSION = "uploadType=resumable(?!.*upload_id)"  # the request that opens one for a large object
MEDIA = "alt=media"


# Faults that pass.


@pytest.mark.parametrize("kind", RANDOM)
def test_a_fault_that_passes_is_survived(store, proxy, kind, tmp_path, monkeypatch):
    late = no_patience(monkeypatch, kind)

    def fault(method, path):
        proxy.calm()
        proxy.fault(kind, method, path, times=2, seconds=late)

    fault("POST", OBJECTS)
    generation = store.put("a/small", b"small")
    assert proxy.count("POST", OBJECTS) >= 2 or kind == "flip"
    fault("POST", OBJECTS)
    assert store.put_if_absent("a/claimed", b"ours")
    store.append("log", "one\n")
    fault("POST", OBJECTS)
    store.flush()
    for path in (OBJECTS, MEDIA):
        if kind == "flip" and path == OBJECTS:
            continue  # a listing has no checksum
        fault("GET", path)
        assert store.get("a/small", generation) == b"small"
        assert proxy.count("GET") >= 4
        fault("GET", path)
        assert store.get("log") == b"one\n"
        if kind != "flip":  # of a part there is no checksum
            fault("GET", path)
            assert store.get_range("a/small", 1, 3) == b"mal"
        fault("GET", path)
        store.download("a/small", tmp_path / "small")
        assert (tmp_path / "small").read_bytes() == b"small"
    if kind != "flip":
        fault("GET", OBJECTS)
        assert store.list_names() == ["a/claimed", "a/small", "log"]
    fault("DELETE", OBJECTS)
    store.remove("a")
    # Of an answer without bytes (204) none can be lost.
    assert proxy.count("DELETE") >= 3 or kind in ("reset_answer", "truncate", "flip")
    proxy.calm()
    assert store.list_names() == ["log"]


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
    assert store.put_if_absent("large", bytearray(LARGE))
    assert store.get("large") == LARGE
    assert not store.put_if_absent("large", b"another")


def test_an_upload_damaged_on_its_way_is_sent_again(store, proxy):
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
        (lambda: store.get_range("a/b", 0, 1), "read", "a/b"),
        (lambda: store.list_names("a"), "list", "a/"),
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
        lambda: store.download("a/b", tmp_path / "b"),
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
        (lambda: store.get_range("a", 0, 1), "get"),
        (lambda: store.list_names(), "list"),
        (lambda: store._bucket.delete({store._root + "a": 1}), "delete"),
    ):
        with pytest.raises(exits.CannotRun, match=says) as refusal:
            call()
        assert f"storage.objects.{permission}" in str(refusal.value)


def test_any_other_refusal_says_what_the_server_says(store, proxy):
    proxy.fault("400", path=OBJECTS, times=3)
    for call in (lambda: store.put("a", b""), lambda: store.put("a", LARGE), lambda: store.list_names()):
        with pytest.raises(exits.CannotRun, match="HTTP 400, a request that no server understands; choose another"):
            call()


def test_a_bucket_that_is_not_there_is_a_sentence(bucket, tmp_path):
    store = open_store("gs://no-such-bucket/run")
    for call in (
        lambda: store.put("a", b""),
        lambda: store.put("a", LARGE),
        lambda: store.put_if_absent("a", b""),
        lambda: store.get("a"),
        lambda: store.get("a", 1),
        lambda: store.download("a", tmp_path / "a"),
        lambda: store.list_names(),
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


def test_the_url_is_read_as_people_write_it(bucket):
    assert open_store("gs://bucket/a//b/").url == "gs://bucket/a/b"
    assert open_store("gs://bucket").url == open_store("gs://bucket/").url == "gs://bucket"
    for bad in ("gs://", "gs:///run", "gs://B/run", "gs://a b/run"):
        with pytest.raises(exits.CannotRun, match=f"{bad}: .* is no name of a bucket"):
            open_store(bad)


def test_a_bucket_alone_can_be_a_run_directory(emulator, bucket):
    emulator.create("whole-bucket")
    store = open_store("gs://whole-bucket")
    with store.locked():
        assert store.first_entry() == ""
        store.put("a/b", b"1")
        store.append("log", "line\n")
        store.close()
        assert store.list_names() == ["a/b", "log"]
        assert store.list_names("a") == ["a/b"]
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


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(store, proxy, bucket, monkeypatch):
    store.put("a", b"old")
    inner, replaced = gcs_bucket.Bucket._copy, []

    def slow(self, blob, file, again):
        if not replaced:
            replaced.append(open_store(bucket).put("a", b"new"))
        inner(self, blob, file, again)

    monkeypatch.setattr(gcs_bucket.Bucket, "_copy", slow)
    assert store.get("a") == b"new"


# A server in this process would need memory of its own.
@pytest.mark.parametrize("emulator", ["fake-gcs-server"], indirect=True)
@pytest.mark.parametrize(("size", "copies"), [(2**21, 3), (2**21 + 8, 0), (2**25 - 8, 0), (2**25, 0), (2**25 + 8, 0)])
def test_a_large_object_is_sent_as_it_lies(bucket, size, copies):
    store, data = open_store(bucket), np.zeros(size // 8)
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
def test_put_if_absent_succeeds_though_its_answer_is_lost(store, proxy, kind):
    proxy.fault(kind, "POST", OBJECTS)
    assert store.put_if_absent("winner", b"writer 1")
    assert proxy.count("POST", OBJECTS) == 2
    assert not store.put_if_absent("winner", b"writer 2")


def test_put_if_absent_fails_if_another_writer_came_between(store, proxy, bucket, monkeypatch):
    open_store(bucket).put("winner", b"writer 2")
    proxy.fault("503", "POST", OBJECTS)
    assert not store.put_if_absent("winner", b"writer 1")
    assert store.get("winner") == b"writer 2"


@pytest.mark.thorough
def test_a_storm_of_every_fault_changes_no_result(emulator, bucket, monkeypatch):
    with faulty(emulator.host, "--seed=4", "--rate=0.2", "--seconds=0.5") as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        store = open_store(bucket)
        with store.locked():
            for number in range(40):
                generation = store.put("a", b"%d" % number)
                assert store.get("a", generation) == b"%d" % number
                assert store.put_if_absent(f"c/{number}", b"%d" % number)
                store.append("log", f"{number}\n")
                store.flush()
            assert store.get("log").decode().split() == [str(number) for number in range(40)]
            store.close()
            assert store.get("log").decode().split() == [str(number) for number in range(40)]
            assert len(store.list_names("c")) == 40
            store.remove("c")
            assert store.list_names() == ["a", "log"]
