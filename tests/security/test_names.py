"""Names that lead outside, in manifests, urls and links. Every marker lies inside the test's own folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import google_crc32c
import pytest

import mutations
from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.exclusive import exclusive_lock
from convoy.data.records import caches, mirror
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.outside import name_in
from convoy.store import open_store
from convoy.store.local import LocalStore
from mutations import SEED, case, untouched

URL = "gs://bucket/packed"


@pytest.fixture
def remote(bucket, tmp_path, monkeypatch):
    """An empty place in a bucket, and a folder for copies deep within the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b" / "c" / "caches"))
    open_store("gs://bucket").remove("packed")
    return open_store(URL)


def signed(content: dict) -> bytes:
    """A document with the checksum of its own text, which anybody can compute."""
    crc = f"{google_crc32c.value(json.dumps(content).encode()):08x}"
    return json.dumps({**content, "crc32c": crc}).encode()


def manifest_of(tmp_path: Path) -> dict:
    pack(DataConfig("synthetic:4x4x3:2:8"), tmp_path / "packed", 10_000)
    manifest = json.loads((tmp_path / "packed" / "MANIFEST.json").read_bytes())
    del manifest["crc32c"]
    return manifest


CLIMBING = "../../../../../../marker"


@pytest.mark.parametrize("shards", [True, False], ids=["copied", "streamed"])
@pytest.mark.parametrize("absolute", [False, True], ids=["climbing", "absolute"])
def test_a_manifest_in_a_bucket_writes_nothing_outside_the_copy(remote, tmp_path, absolute, shards):
    manifest = manifest_of(tmp_path)
    name = str(tmp_path / "marker") if absolute else CLIMBING
    manifest["files"][name] = {"bytes": 4, "crc32c": "00000000"}
    remote.put("MANIFEST.json", signed(manifest))
    # An object of a bucket may have any name, although a store of ours never asks for such a one.
    for place in {name, name.lstrip("/")}:
        remote._bucket.upload(f"packed/{place}", b"mark", 0)
    for file in (tmp_path / "packed").iterdir():
        if file.suffix in (".tfrecord", ".npy"):
            remote.put(file.name, file.read_bytes())
    with untouched(tmp_path, tmp_path / "a"), pytest.raises(exits.BadData, match=r"is absolute|climbs out"):
        mirror.mirrored(URL, "", shards)
    assert not list(tmp_path.rglob("marker"))


@pytest.mark.parametrize("url", ["gs://bucket/../../../../x", "gs://bucket/a/../../../../../x", "gs://bucket/a/.."])
def test_a_url_that_climbs_has_no_copy(remote, tmp_path, url):
    with untouched(tmp_path), pytest.raises(exits.BadData, match="climbs out"):
        mirror.mirrored(url, "")
    with pytest.raises(exits.BadData, match="climbs out"):
        caches.copy_of(url, str(tmp_path / "copies"))


def test_a_records_folder_reads_nothing_outside(tmp_path):
    """A split's name is part of a path; no file behind it is opened."""
    manifest = manifest_of(tmp_path)
    packed = tmp_path / "packed"
    (tmp_path / "elsewhere").mkdir()
    for file in packed.glob("train*"):
        file.rename(tmp_path / "elsewhere" / file.name)
    for old in [name for name in manifest["files"] if name.startswith("train")]:
        manifest["files"][f"../elsewhere/{old}"] = manifest["files"].pop(old)
    manifest["plan"]["splits"]["../elsewhere/train"] = manifest["plan"]["splits"].pop("train")
    (packed / "MANIFEST.json").write_bytes(signed(manifest))
    with pytest.raises(exits.BadData, match="is no name of a split"):
        open_dataset(DataConfig(f"records:{packed}"))


def test_a_manifest_may_claim_any_number_of_shards(tmp_path):
    manifest = manifest_of(tmp_path)
    manifest["plan"]["splits"]["train"] |= {"shards": 1_000_000_000, "examples": 1_000_000_000}
    (tmp_path / "packed" / "MANIFEST.json").write_bytes(signed(manifest))
    with pytest.raises(exits.BadData, match="do not have the 4 files that it names"):
        open_dataset(DataConfig(f"records:{tmp_path / 'packed'}"))


@pytest.fixture
def outside(tmp_path):
    """A run directory, and a folder beside it that must stay untouched."""
    (tmp_path / "outside" / "folder").mkdir(parents=True)
    (tmp_path / "outside" / "file").write_text("kept")
    (tmp_path / "outside" / "folder" / "1.123.partial").write_text("kept")
    (tmp_path / "run").mkdir()
    return tmp_path / "outside"


WRITES = {
    "put": lambda store, name: store.put(name, b"new"),
    "put_if_absent": lambda store, name: store.put_if_absent(name, b"new"),
    "append": lambda store, name: store.append(name, "new\n"),
    "rewrite": lambda store, name: store.rewrite(name, "new\n"),
}


@pytest.mark.parametrize("write", WRITES)
def test_no_link_in_a_run_directory_is_followed_when_writing(outside, write):
    store = LocalStore(str(outside.parent / "run"))
    (store.root / "file").symlink_to(outside / "file")
    (store.root / "folder").symlink_to(outside / "folder")
    (store.root / "loop").symlink_to(store.root / "loop")
    (store.root / f"new.{os.getpid()}.partial").symlink_to(outside / "file")  # the partial file of a write
    with untouched(outside.parent, store.root):
        for name in ("file", "folder/file", "loop", "loop/file", "new"):
            with contextlib.suppress(exits.BadData):  # or the link gives way to a file
                WRITES[write](store, name)
                assert not (store.root / name).is_symlink() or write == "put_if_absent"
    assert (outside / "file").read_text() == "kept"


def test_no_link_in_a_run_directory_is_followed_when_cleaning(outside):
    store = LocalStore(str(outside.parent / "run"))
    (store.root / "checkpoints").symlink_to(outside / "folder")
    (store.root / "7.123.partial").symlink_to(outside / "file")
    with untouched(outside.parent, store.root):
        store.remove_partials()
        with pytest.raises(exits.BadData):
            store.remove("checkpoints/1.123.partial")
        store.remove("checkpoints")
    assert store.list_names() == []


def test_links_are_listed_and_not_read(outside):
    store = LocalStore(str(outside.parent / "run"))
    (store.root / "file").symlink_to(outside / "file")
    (store.root / "folder").symlink_to(outside / "folder")
    assert store.list_names() == ["file", "folder"]
    for name in ("file", "folder/1.123.partial"):
        with pytest.raises(exits.BadData, match="a link, a pipe or another thing"):
            store.get(name)
        with pytest.raises(exits.BadData):
            store.download(name, outside.parent / "copy")
    with pytest.raises(exits.BadData):
        store.folder("folder")
    assert not (outside.parent / "copy").exists()


def test_nothing_waits_for_a_pipe_in_a_run_directory(tmp_path):
    store = LocalStore(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    for call in (
        store.get,
        lambda name: store.append(name, "x\n"),
        lambda name: store.download(name, tmp_path / "copy"),
    ):
        with pytest.raises(exits.BadData, match="a pipe"):
            call("pipe")
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(exits.BadData, match="a pipe"), store.locked():
        pass


@pytest.mark.parametrize("name", ["../outside/file", "/outside/file", "folder/../../outside/file", "a\0b"])
def test_a_store_takes_no_other_names(outside, name):
    store = LocalStore(str(outside.parent / "run"))
    with untouched(outside.parent), pytest.raises(exits.BadData):
        store.put(name, b"new")
    with untouched(outside.parent), pytest.raises(exits.BadData):
        store.remove(name)
    with pytest.raises(exits.BadData):
        store.get(name)


def test_an_object_of_a_bucket_with_a_name_that_climbs_is_refused(remote):
    remote._bucket.upload("packed/a/../../b", b"", 0)
    with pytest.raises(exits.BadData, match="climbs out"):
        remote.list_names()


def test_the_console_draws_empty_folders(remote):
    """Objects whose names end in / are not ours and make no run."""
    remote._bucket.upload("packed/", b"", 0)
    remote._bucket.upload("packed/checkpoints/", b"", 0)
    remote.put("config.json", b"{}")
    assert remote.list_names() == ["config.json"]
    remote.remove("config.json")
    remote._bucket.delete({"packed/checkpoints/": remote._bucket.generation("packed/checkpoints/")})
    assert remote.first_entry() == ""


def test_an_object_larger_than_its_kind_is_not_read(remote, tmp_path):
    local = LocalStore(str(tmp_path / "run"))
    for store in (remote, local):
        store.put("config.json", b"12345")
        assert store.get("config.json", max_bytes=5) == b"12345"
        for call in (
            lambda store=store: store.get("config.json", max_bytes=4),
            lambda store=store: store.download("config.json", tmp_path / "copy", max_bytes=4),
        ):
            with pytest.raises(exits.BadData, match="more than 4 bytes"):
                call()
    assert not (tmp_path / "copy").exists()


def made_odd(kind: str, place: Path, outside: Path) -> None:
    """Puts another kind of file in the place of a lock."""
    match kind:
        case "link":
            place.symlink_to(outside / "file")
        case "link to nothing":
            place.symlink_to(outside / "new")
        case "link to itself":
            place.symlink_to(place)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "link to itself", "pipe", "folder"])
@pytest.mark.parametrize("lock", [".lock", ".copying.lock"])
def test_a_lock_is_a_file_of_its_folder(outside, lock, kind):
    folder = outside.parent / "run"
    made_odd(kind, folder / lock, outside)
    with (
        untouched(outside.parent),
        pytest.raises(exits.BadData, match="no regular file"),
        exclusive_lock(folder, lock, ""),
    ):
        pass
    if lock == ".lock":
        with untouched(outside.parent):
            with pytest.raises(exits.BadData), LocalStore(str(folder)).locked():
                pass
            with pytest.raises(exits.BadData, match="no regular file"):
                pack(DataConfig("synthetic:4x4x3:2:8"), folder, 10_000)


def test_folders_below_a_run_have_a_bound(tmp_path):
    store = LocalStore(str(tmp_path))
    deep = "checkpoints/" + "a/" * 1200
    folder = os.open(tmp_path, os.O_RDONLY)
    for part in deep.rstrip("/").split("/"):
        os.mkdir(part, dir_fd=folder)
        folder, above = os.open(part, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    try:
        with pytest.raises(exits.BadData, match="deeper than any run writes"):
            store.list_names()
        with pytest.raises(exits.BadData, match="too deep"):
            store.remove("checkpoints")
    finally:  # pytest cannot remove it
        subprocess.run(["rm", "-rf", tmp_path / "checkpoints"], check=True)


@mutations.counts(1000)
def test_any_name_lies_inside_or_is_refused(tmp_path, count):
    """Of names that a seed draws, a store writes below its root, or nothing."""
    store, taken = LocalStore(str(tmp_path / "run")), 0
    for number in range(count):
        with case(SEED, number) as chance:
            text = mutations.name(chance, chance.choice(["model.npz", "checkpoints/00000040.2/state.json", "é"]))
            try:
                checked = name_in(text, "MANIFEST.json")
            except exits.BadData:
                continue
            taken += 1
            assert os.path.normpath(checked) == checked
            assert not {"..", ""}.intersection(checked.split("/"))
            if number % 10 == 0:
                with untouched(tmp_path, store.root):
                    store.put(checked, b"")
                store.remove(checked.split("/")[0])
    assert 0.02 * count < taken < 0.8 * count, "both kinds were met"
