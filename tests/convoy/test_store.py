"""What any store does; and the local one: whole objects, one writer, and sentences for what the disk refuses."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from convoy import exits
from convoy.store import open_store
from convoy.store.local import LocalStore


@pytest.fixture
def local(tmp_path):
    return LocalStore(str(tmp_path / "run"))


@pytest.fixture(params=["local", "gs"])
def store(request, local, bucket):
    return local if request.param == "local" else open_store(bucket)


def test_objects_come_back_whole(store):
    store.put("a/b.bin", b"one")
    store.put("a/b.bin", b"two")
    store.put("c", b"")
    assert store.get("a/b.bin") == b"two"
    assert store.list_names() == ["a/b.bin", "c"]
    assert store.list_names("a") == ["a/b.bin"]
    with pytest.raises(FileNotFoundError):
        store.get("absent")


def test_an_object_becomes_a_file(store, tmp_path):
    generation = store.put("a/b.bin", bytes(range(256)) * 1000)
    store.download("a/b.bin", tmp_path / "here", generation)
    assert (tmp_path / "here").read_bytes() == bytes(range(256)) * 1000
    with pytest.raises(FileNotFoundError):
        store.download("absent", tmp_path / "there")
    assert not list(tmp_path.glob("*there*"))


def test_a_range_of_an_object_comes_back(store):
    data = bytes(range(256)) * 40
    store.put("a/b.bin", data)
    assert store.get_range("a/b.bin", 0, len(data)) == data
    assert store.get_range("a/b.bin", 300, 1) == data[300:301]
    assert store.get_range("a/b.bin", len(data) - 7, 7) == data[-7:]
    with pytest.raises(FileNotFoundError):
        store.get_range("absent", 0, 1)
    for first, size in ((len(data) - 7, 8), (len(data), 1), (10**12, 5)):
        with pytest.raises(exits.BadData, match=f"a/b.bin ends before byte {first + size:,}"):
            store.get_range("a/b.bin", first, size)


def test_put_if_absent_succeeds_once(store):
    assert store.put_if_absent("winner", b"first")
    assert not store.put_if_absent("winner", b"second")
    assert store.get("winner") == b"first"
    assert store.list_names() == ["winner"]


def test_append_adds(store):
    store.append("log", "a\n")
    store.append("log", "b\n")
    assert store.get("log") == b"a\nb\n"
    store.flush()
    store.append("log", "c\n")
    assert store.get("log") == b"a\nb\nc\n"
    assert store.list_names() == ["log"]
    store.close()
    assert store.get("log") == open_store(store.url).get("log") == b"a\nb\nc\n"


def test_rewrite_replaces_what_was_appended(store):
    store.append("log", "a\n")
    store.flush()
    store.append("log", "b\n")
    store.rewrite("log", "A\n")
    store.append("log", "c\n")
    store.flush()
    assert store.get("log") == open_store(store.url).get("log") == b"A\nc\n"
    store.remove("log")
    assert store.list_names() == []
    store.append("log", "d\n")
    assert store.get("log") == b"d\n"


def test_a_torn_line_does_not_take_the_next_one_with_it(local):
    (local.root).mkdir()
    (local.root / "log").write_bytes(b"whole\ntor")
    local.append("log", "next\n")
    assert local.get("log") == b"whole\ntor\nnext\n"


def test_put_if_absent_works_without_hard_links(local, monkeypatch):
    def no_links(source, target, **folders):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert local.put_if_absent("winner", b"first")
    with pytest.raises(exits.CannotRun):
        local.put_if_absent("winner", b"second")
    assert local.get("winner") == b"first"


def test_a_storage_that_is_away_is_worth_another_try(local, monkeypatch):
    def stale(*arguments):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "fsync", stale)
    with pytest.raises(exits.TryAgain, match="stale file handle"):
        local.put("a", b"")


def test_remove_takes_an_object_or_a_folder_and_is_content_with_none(store):
    for name in ("a/b", "a/c", "ab", "a.b"):
        store.put(name, b"")
    store.remove("a/b")
    assert store.list_names() == ["a.b", "a/c", "ab"]
    store.remove("a")
    store.remove("a")
    assert store.list_names() == ["a.b", "ab"]


def test_whatever_lies_there_is_named(store):
    with store.locked():
        assert store.first_entry() == ""
        store.put("film/1", b"")
        assert store.first_entry() == "film"


def test_a_write_that_fails_leaves_the_old_object(local, monkeypatch):
    local.put("a", b"old")

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(exits.CannotRun, match="no space left on device; free some space"):
        local.put("a", b"new")
    monkeypatch.undo()
    assert local.get("a") == b"old"
    assert local.list_names() == ["a"], "no partial object is left"


def test_a_limit_of_the_kernel_is_a_full_disk(tmp_path):
    program = (
        "from convoy.store.local import LocalStore\n"
        f"store = LocalStore({str(tmp_path)!r})\n"
        "try: store.put('large', bytes(1_000_000))\n"
        "except Exception as e: print(type(e).__name__, e)\n"
        "print(store.list_names())"
    )

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=small_files, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"CannotRun cannot write {tmp_path}/large: file too large")
    assert done.stdout.splitlines()[1] == "[]"


def test_there_is_one_writer_until_it_dies(tmp_path):
    program = (
        "import sys\nfrom convoy.store.local import LocalStore\n"
        f"with LocalStore({str(tmp_path)!r}).locked(): print('locked', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(exits.CannotRun, match="another process is training there"), LocalStore(str(tmp_path)).locked():
        pass
    first.kill()
    first.communicate()
    for _ in range(2):  # given back when it is left, too
        with LocalStore(str(tmp_path)).locked():
            pass


def test_partial_objects_of_a_dead_writer_are_removed(local):
    local.put("a/b", b"whole")
    (local.root / "a" / "c.123.partial").write_bytes(b"half")
    assert local.list_names() == ["a/b"]
    (local.root / "film.partial").write_bytes(b"somebody else's")
    local.remove_partials()
    assert not (local.root / "a" / "c.123.partial").exists()
    assert (local.root / "film.partial").exists(), "only names that we give"
    (local.root / "film.partial").unlink()
    assert local.first_entry() == "a"


def test_a_run_directory_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(exits.CannotRun, match=f"cannot write {tmp_path}/file"),
        LocalStore(str(tmp_path / "file")).locked(),
    ):
        pass


def test_another_kind_of_place_is_a_sentence():
    with pytest.raises(exits.CannotRun, match="s3:// is no place that Convoy can write"):
        open_store("s3://bucket/run")
