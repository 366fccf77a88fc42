"""Logs in a bucket: segments, rewrites, and deaths between them."""

from __future__ import annotations

import pytest

from buckets import OBJECTS, objects
from convoy import exits
from convoy.store import gcs_bucket, open_store


def flush_unanswered(store, proxy, monkeypatch):
    """The segment may have arrived; no answer does in time."""
    with monkeypatch.context() as patch:
        patch.setattr(gcs_bucket, "DEADLINE_SECONDS", 0.1)
        proxy.fault("lost", "POST", OBJECTS, times=1000)
        with pytest.raises(exits.TryAgain):
            store.flush()
    proxy.calm()


def test_a_segment_is_ours_though_no_answer_came_in_time(store, proxy, monkeypatch):
    store.append("log", "one\n")
    flush_unanswered(store, proxy, monkeypatch)
    store.append("log", "two\n")
    store.flush()
    assert store.get("log") == open_store(store.url).get("log") == b"one\ntwo\n"


def test_a_rewrite_leaves_out_what_may_have_arrived(store, proxy, monkeypatch):
    store.append("log", "one\n")
    flush_unanswered(store, proxy, monkeypatch)
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


def test_another_writer_of_a_log_is_noticed(store, bucket):
    store.append("log", "1\n")
    store.flush()
    other = open_store(bucket)
    other.append("log", "2\n")
    other.flush()
    store.append("log", "3\n")
    with pytest.raises(
        exits.CannotRun, match=f"another process has written {bucket}/log.segments/000002; only one may"
    ):
        store.flush()
    other.close()
    with pytest.raises(exits.CannotRun, match=f"another process has written {bucket}/log; only one may"):
        store.rewrite("log", "")
    assert other.get("log") == b"1\n2\n"


@pytest.mark.parametrize("change", ["close", "rewrite"])
def test_a_death_at_any_point_leaves_a_log_right(bucket, change, monkeypatch):
    class Death(BaseException):
        pass

    before, after = b"a\nb\nc\n", b"a\nb\nc\n" if change == "close" else b"A\n"
    for survived in range(100):
        store = open_store(f"{bucket}/{survived}")
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
            seen.remove_partials()
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
