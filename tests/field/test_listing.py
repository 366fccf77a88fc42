"""A folder that cannot be listed is not taken for an empty one, be it of photographs, code or checkpoints."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.sources.opening import open_dataset
from convoy.launch.targets.tpu_vm import bundle
from convoy.store import open_store
from support import write_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@contextlib.contextmanager
def unlisted(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> Iterator[None]:
    """Makes the system refuse to list one folder, even to the superuser, whom permissions do not stop."""
    kept, refused = os.scandir, os.stat(folder)

    def scandir(place=".", kept=kept):
        if os.path.samestat(os.stat(place), refused):
            raise OSError(number, os.strerror(number), os.fspath(folder))
        return kept(place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        yield


def opened(root: Path):
    return open_dataset(DataConfig(f"folder:{root}", image_size=8, eval_split="none"))


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, exits.CANNOT_RUN), (errno.EIO, exits.TRY_AGAIN)])
@pytest.mark.parametrize("below", ["", "cat", "cat/deeper", "cat/deeper/still"])
def test_a_class_loses_no_images_in_silence(tmp_path, monkeypatch, below, number, code):
    root = tmp_path / "images"
    write_images(root, ("cat", "dog"), 2)
    write_images(root / "cat" / "deeper", ("still",), 2)
    shutil.copy(root / "cat" / "000.jpg", root / "cat" / "deeper")
    assert len(opened(root).split("train")) == 7
    with unlisted(monkeypatch, root / below, number), pytest.raises(exits.ConvoyError) as error:
        opened(root)
    assert error.value.code == code
    assert str(error.value).startswith(f"cannot list {root / below}: {os.strerror(number).lower()}; ")


@pytest.mark.parametrize("split", ["validation", "test", "test/cat"])
def test_no_split_disappears(tmp_path, monkeypatch, split):
    for name in ("train", "validation", "test"):
        write_images(tmp_path / name, ("cat", "dog"), 2)
    with unlisted(monkeypatch, tmp_path / split, errno.EACCES), pytest.raises(exits.CannotRun, match=f"/{split}: perm"):
        opened(tmp_path)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Takes the superuser's rights to files from this thread, which Linux drops with the user id of files."""
    if os.geteuid():
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("the superuser may list any folder, and this system has no setfsuid")
    system = ctypes.CDLL(None)
    system.setfsuid(65534)
    try:
        yield
    finally:
        system.setfsuid(0)


def test_permissions_of_the_file_system_are_reported(photographs, monkeypatch):
    monkeypatch.chdir(photographs.parent)  # above it are folders that nobody may enter
    for folder in (photographs.parent, photographs, photographs / "dog"):
        folder.chmod(0o755)
    assert len(opened(Path(photographs.name)).split("train")) == 24  # and all that is imported on the way is
    (photographs / "cat").chmod(0)
    with as_nobody(), pytest.raises(exits.CannotRun) as error:
        opened(Path(photographs.name))
    (photographs / "cat").chmod(0o755)
    assert str(error.value) == (
        "cannot list photographs/cat: permission denied; make it readable for you, or take it out of there."
    )


def test_a_link_to_itself_among_the_classes_is_a_sentence(photographs):
    (photographs / "bird").symlink_to("bird")
    with pytest.raises(exits.CannotRun, match="bird: too many levels of symbolic links; "):
        opened(photographs)


def test_links_within_a_class_are_followed_where_they_lead_elsewhere(photographs, tmp_path, capsys):
    write_images(tmp_path / "elsewhere", ("more",), 2)
    (photographs / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (photographs / "cat" / "up.jpg").symlink_to("..")
    (photographs / "cat" / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "more" / "000.jpg")
    assert len(opened(photographs).split("train")) == 27
    assert f"1 linked folder that is listed anyway ('{photographs}/cat/up.jpg')" in capsys.readouterr().out
    (photographs / "cat" / "itself.jpg").symlink_to("itself.jpg")
    with pytest.raises(exits.BadData, match=r"cat/itself\.jpg cannot be read: too many levels"):
        opened(photographs).split("train")


def test_a_class_folder_may_be_a_link(photographs, tmp_path):
    write_images(tmp_path / "elsewhere", ("bird",), 2)
    (photographs / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    assert opened(photographs).class_names == ("bird", "cat", "dog")


def test_a_bundle_that_lacks_a_package_is_an_error(tmp_path, monkeypatch):
    inner = tmp_path / "mine" / "inner"
    inner.mkdir(parents=True)
    for path in (inner.parent / "__init__.py", inner / "layers.py"):
        path.touch()
    files: dict[str, bytes] = {}
    bundle._add(files, tmp_path / "mine", "mine")
    assert sorted(files) == ["mine/__init__.py", "mine/inner/layers.py"]
    with unlisted(monkeypatch, inner, errno.EACCES), pytest.raises(exits.CannotRun, match=f"cannot list {inner}: perm"):
        bundle._add({}, tmp_path / "mine", "mine")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("below", ["", "checkpoints", "checkpoints/0000000100.00"])
def test_a_run_directory_that_cannot_be_listed_is_not_taken_for_empty(tmp_path, monkeypatch, below, number):
    store = open_store(str(tmp_path))
    folder = tmp_path / "checkpoints" / "0000000100.00"
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").touch()
    assert store.list_names() == ["checkpoints/0000000100.00/MANIFEST.json"]
    with unlisted(monkeypatch, tmp_path / below, number), pytest.raises(exits.ConvoyError) as error:
        store.list_names()
    assert error.value.code in (exits.CANNOT_RUN, exits.TRY_AGAIN)


def test_a_missing_run_directory_is_empty(tmp_path):
    assert open_store(str(tmp_path / "new")).list_names() == []
