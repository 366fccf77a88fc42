"""Deletes, downloads and uploads whose condition no longer holds: what fake-gcs-server lets pass and Google refuses."""

from __future__ import annotations

import pytest
from google.api_core import exceptions as api

from buckets import OBJECTS, objects
from convoy.store import gcs_bucket, open_store

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("emulator", ["strict"], indirect=True)]


def test_an_object_that_was_replaced_is_not_removed(store, bucket):
    generation = store.put("a", b"ours")
    open_store(bucket).put("a", b"theirs")
    store._bucket.delete({f"{store._root}a": generation})
    assert store.get("a") == b"theirs"
    store.remove("a")
    store._bucket.delete({f"{store._root}a": generation})
    assert objects(store) == []


def test_a_removal_whose_answer_is_lost_leaves_what_came_after_it(store, proxy, bucket, monkeypatch):
    store.put("a", b"ours")
    delete = gcs_bucket.Bucket._delete

    def replaced(self, name, generation, again):
        try:
            delete(self, name, generation, again)
        finally:
            if self is store._bucket:
                open_store(bucket).put_if_absent("a", b"theirs")

    monkeypatch.setattr(gcs_bucket.Bucket, "_delete", replaced)
    proxy.fault("lost", "DELETE", OBJECTS)
    store.remove("a")
    assert store.get("a") == b"theirs"


def test_a_lease_that_was_taken_over_is_left_to_its_heir(bucket, monkeypatch):
    lost, heir = open_store(bucket), open_store(bucket)
    monkeypatch.setenv("CONVOY_WRITER", "one parent of both")
    with lost.locked():
        heir._lease._writer = lost._lease._writer
        with heir.locked():
            lost._bucket.release(f"{lost._root}.lock", lost._lease._generation, seconds=5.0)
            assert objects(heir) == [".lock"]
    assert objects(heir) == []


@pytest.mark.parametrize("size", [10_000, gcs_bucket.SIMPLE_BYTES + 1], ids=["one request", "a session"])
def test_bytes_that_do_not_fit_their_checksum_are_not_kept(store, proxy, size, monkeypatch):
    store.put("a", b"before")
    proxy.calm()
    proxy.fault("flip_request", "PUT" if size > gcs_bucket.SIMPLE_BYTES else "POST", "upload_id|multipart", times=2)
    monkeypatch.setattr(gcs_bucket, "DEADLINE_SECONDS", 5.0)
    generation = store.put("a", b"x" * size)
    assert store.get("a", generation) == b"x" * size


def test_the_server_answers_as_google_documents(store):
    generation = store.put("a", b"0123456789")
    blob = store._bucket._bucket.blob(f"{store._root}a")
    assert blob.download_as_bytes(if_generation_match=generation, start=2, end=3) == b"23"
    with pytest.raises(api.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=generation + 1)
    with pytest.raises(api.PreconditionFailed):
        blob.delete(if_generation_match=generation + 1)
    with pytest.raises(api.NotModified):
        blob.reload(if_generation_not_match=generation)
    with pytest.raises(api.NotFound):
        store._bucket._bucket.blob(f"{store._root}a", generation=generation + 1).download_as_bytes()
    with pytest.raises(api.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)
    blob.crc32c = "AAAAAA=="
    with pytest.raises(api.BadRequest, match="Provided CRC32C .* doesn't match calculated"):
        blob.upload_from_string(b"0123456789", checksum=None)
    assert store.get("a", generation) == b"0123456789"
