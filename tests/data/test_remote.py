"""Records in a bucket: sent once, copied once, and never taken for whole when they are not."""

from __future__ import annotations

import numpy as np
import pytest
from packed_sets import send

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.records import format, mirror
from convoy.data.records.caches import copy_of
from convoy.data.records.manifest import MANIFEST, PLAN
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.store import open_store

URL = "gs://bucket/packed/digits"


@pytest.fixture
def place(bucket, tmp_path, monkeypatch):
    """A folder for copies; the bucket is empty, and all that goes to and from it is counted."""
    open_store("gs://bucket").remove("packed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path


@pytest.fixture
def packed(place):
    root = place / "packed"
    pack(DataConfig(), root, 100_000)
    return root


def files_of(root):
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def counted(monkeypatch):
    """The names of the objects that are fetched from now on."""
    from convoy.store.gcs import GcsStore

    fetched, fetch = [], GcsStore.download

    def count(self, name, path, **options):
        fetched.append(name)
        fetch(self, name, path, **options)

    monkeypatch.setattr(GcsStore, "download", count)
    return fetched


def test_sent_records_come_back_and_are_fetched_once(packed, monkeypatch, capsys):
    send(packed, URL)
    assert files_of(packed) == open_store(URL).list_names()
    dataset, source = open_dataset(DataConfig(f"records:{URL}")), open_dataset(DataConfig())
    for split in source.split_names:
        np.testing.assert_array_equal(dataset.split(split).labels, source.split(split).labels)
        np.testing.assert_array_equal(dataset.split(split).content_hashes(), source.split(split).content_hashes())
    copy = copy_of(URL, "")
    assert files_of(copy) == files_of(packed)
    for name in files_of(packed):
        assert (copy / name).read_bytes() == (packed / name).read_bytes() or name == MANIFEST
    fetched = counted(monkeypatch)
    assert mirror.mirrored(URL, "") == copy
    assert fetched == []
    assert capsys.readouterr().out.count("Copying") == 1


def test_an_incomplete_copy_gets_only_the_missing_files(packed, monkeypatch):
    send(packed, URL)
    copy = mirror.mirrored(URL, "")
    (copy / "train.index.npy").write_bytes(b"cut short")
    (copy / "test-00000-of-00001.tfrecord").unlink()
    fetched = counted(monkeypatch)
    mirror.mirrored(URL, "")
    assert sorted(fetched) == ["test-00000-of-00001.tfrecord", "train.index.npy"]
    # Packed anew in the same place: what has another checksum is another file.
    open_store(URL).remove("train.index.npy")
    manifest = format.read_json(packed / MANIFEST)
    manifest["files"]["train.index.npy"]["crc32c"] = "00000000"
    format.write_json(packed / MANIFEST, manifest)
    open_store(URL).put(MANIFEST, (packed / MANIFEST).read_bytes())
    open_store(URL).put("train.index.npy", (packed / "train.index.npy").read_bytes())
    del fetched[:]
    mirror.mirrored(URL, "")
    assert fetched == ["train.index.npy"]


def test_data_dir_says_where_the_copy_lives(packed, place):
    send(packed, URL)
    open_dataset(DataConfig(f"records:{URL}", data_dir=str(place / "disk"))).split("test")
    assert (place / "disk" / "bucket" / "packed" / "digits" / MANIFEST).exists()


def test_a_copy_that_was_cut_is_not_whole(packed, monkeypatch):
    from convoy.store.gcs import GcsStore

    send(packed, URL)
    fetch = GcsStore.download

    def cut(self, name, path, **options):
        if name == "train.index.npy":
            raise exits.TryAgain("the storage is away")
        fetch(self, name, path, **options)

    monkeypatch.setattr(GcsStore, "download", cut)
    with pytest.raises(exits.TryAgain):
        mirror.mirrored(URL, "")
    assert not (copy_of(URL, "") / MANIFEST).exists()
    monkeypatch.undo()


def test_a_disk_that_fills_up_is_a_sentence(packed, monkeypatch):
    from convoy.store.gcs import GcsStore

    send(packed, URL)
    fetch = GcsStore.download

    def full(self, name, path, **options):
        if name != MANIFEST:
            raise OSError(28, "No space left on device")
        fetch(self, name, path, **options)

    monkeypatch.setattr(GcsStore, "download", full)
    with pytest.raises(exits.CannotRun, match="no space left on device; name another place with --data_dir"):
        mirror.mirrored(URL, "")


def test_packing_goes_to_a_bucket_shard_by_shard_and_goes_on_where_it_was_cut(packed, place, monkeypatch, capsys):
    from convoy.store.gcs import GcsStore

    put, sent, staged, limit = GcsStore.put, [], [], 3

    def cut(self, name, data):
        if len(sent) == limit:
            raise exits.TryAgain("the storage is away")
        sent.append(name)
        staged.append(len(list((place / "staging").glob("*.tfrecord"))))
        return put(self, name, data)

    monkeypatch.setattr(GcsStore, "put", cut)
    with pytest.raises(exits.TryAgain):
        pack(DataConfig(), place / "staging", 100_000, URL)
    assert sent[0] == PLAN
    with pytest.raises(exits.BadData, match="not packed to its end; give the same `convoy data pack` again"):
        mirror.mirrored(URL, "")
    del sent[:]
    limit = 1000
    pack(DataConfig(), place / "staging", 100_000, URL)
    assert sent[-1] == MANIFEST
    assert len(sent) == len(files_of(packed)) - 2, "the two that were sent stay"
    assert max(staged) == 1
    assert files_of(place / "staging") == []
    store = open_store(URL)
    assert store.list_names() == files_of(packed)
    for name in files_of(packed):
        assert store.get(name) == (packed / name).read_bytes()
    pack(DataConfig(), place / "staging", 100_000, URL)
    assert "holds all of digits already" in capsys.readouterr().out


def test_other_files_beside_a_copy_stay(packed, place):
    store = open_store(URL)
    store.put("holiday.jpg", b"")
    with pytest.raises(exits.CannotRun, match="holds holiday.jpg"):
        send(packed, URL)
    store.remove("holiday.jpg")
    send(packed, URL)
    pack(DataConfig(), place / "other", 50_000)
    with pytest.raises(exits.CannotRun, match="holds another packing"):
        send(place / "other", URL)
    store.remove(MANIFEST)
    store.put(PLAN, b"{}")
    with pytest.raises(exits.CannotRun, match="the begin of another packing"):
        send(packed, URL)


def test_sentences(packed, monkeypatch):
    with pytest.raises(exits.CannotRun, match="has no MANIFEST.json; give a place that"):
        mirror.mirrored("gs://bucket/nothing", "")
    send(packed, URL)
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(exits.CannotRun, match="0.0 GiB free; name a larger place with --data_dir"):
        mirror.mirrored(URL, "")
    monkeypatch.undo()
