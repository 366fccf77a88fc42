"""The image files that a person names: in the order of their paths, and nothing left out in silence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from convoy import exits
from convoy.data.images.listing import ImageFile, image_files
from convoy.data.images.walk import LeftOut, images_below


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def paths(root: Path, *places: str) -> list[str]:
    return [file.path.removeprefix(f"{root}/") for file in image_files(f"{root}/{place}" for place in places)]


def test_a_folder_is_walked_in_the_order_of_its_paths(tmp_path):
    # A dash and a dot come before the slash, a zero and a letter behind it.
    names = [
        f"{folder}{letter}.png"
        for folder in ("", "a/", "a-b/", "a.b/", "a0/", "a/b/", "ab/", "a/c.b/", "B/")
        for letter in "cZ"
    ]
    make(tmp_path, *names, "a.png", "a/b.png/c.jpg", "readme.txt", "a/b/readme", "a/.b/c.png")
    make(tmp_path, ".store/c.png", ".store/b/c.png")
    (tmp_path / "here").symlink_to(tmp_path)
    (tmp_path / "a" / "link.JPEG").symlink_to(tmp_path / "c.png")
    (tmp_path / "a" / "folder.gif").symlink_to(tmp_path / "B")
    (tmp_path / "a" / "b+").symlink_to(tmp_path / ".store")  # which is hidden, and the link is not
    (tmp_path / "a" / "loop.bmp").symlink_to("loop.bmp")
    left_out = LeftOut()
    walked = list(images_below(tmp_path, left_out))
    assert walked == sorted(walked)
    assert len(walked) == 2 * 9 + 2 + 2 + 2
    assert left_out.note() == (
        f"Note: left out: 2 files that are no images ('{tmp_path}/a/b/readme', ...); 2 hidden files or folders"
        f" ('{tmp_path}/.store', ...); 2 linked folders that are listed anyway ('{tmp_path}/a/folder.gif', ...)."
    )
    assert list(image_files([str(tmp_path)])) == [ImageFile(path) for path in walked]
    assert list(image_files([f"{tmp_path}/"])) == [ImageFile(path) for path in walked]


def test_folders_deeper_than_python_recurses(tmp_path):
    place, here = tmp_path, os.getcwd()
    try:
        for _ in range(1100):  # a path of 2,200 characters
            os.chdir(place)
            os.mkdir("d")
            place = Path("d")
        os.chdir(place)
        Path("x.png").touch()
    finally:
        os.chdir(here)
    try:
        assert len(next(images_below(tmp_path, LeftOut()))) > 2200
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # Python's own removal recurses


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.png", ["b.png", "c[1].png"]),
        ("?/*.jpg", ["a/1.jpg", "a/2.jpg"]),
        ("[ab]*/[12].jpg", ["a/1.jpg", "a/2.jpg", "bc/1.jpg"]),
        ("bc", ["bc/1.jpg"]),
        ("b*", ["b.png", "bc/1.jpg"]),
        ("c[1].png", ["c[1].png"]),
        (".*/*", [".hidden/1.jpg"]),
        ("*/notes.txt", ["a/notes.txt"]),
        ("d*", ["d*"]),
        ("b.png/*", ["b.png/*"]),
        ("x?/y", ["x?/y"]),
    ],
)
def test_a_pattern_names_what_a_shell_would_name(tmp_path, pattern, matched):
    make(tmp_path, "b.png", "c[1].png", "a/1.jpg", "a/2.jpg", "a/notes.txt", "bc/1.jpg", ".hidden/1.jpg")
    assert paths(tmp_path, pattern) == matched
    (*_, last) = image_files([f"{tmp_path}/{pattern}"])
    assert last.reason == ("matches no file" if matched == [pattern] and pattern != "c[1].png" else "")


def test_places_keep_their_order_and_may_be_relative(tmp_path, monkeypatch):
    make(tmp_path, "b.png", "a/1.jpg", "home/c.gif")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = image_files(["b.png", "./a", "*/*.jpg", "absent.png", "~/c.gif", "b.png"])
    assert [file.path for file in files] == [
        "b.png", "./a/1.jpg", "a/1.jpg", "absent.png", str(tmp_path / "home" / "c.gif"), "b.png",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root lists every folder")
def test_a_folder_that_cannot_be_listed_is_said(tmp_path):
    make(tmp_path, "a/1.jpg")
    (tmp_path / "a").chmod(0)
    with pytest.raises(exits.CannotRun, match=f"cannot list {tmp_path / 'a'}: permission denied"):
        list(image_files([str(tmp_path)]))


def test_a_folder_that_fails_in_the_middle_is_said(tmp_path, monkeypatch):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def failing(folder):
        if os.fspath(folder).endswith("/b"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", failing)
    files = image_files([str(tmp_path)])
    assert next(files).path.endswith("1.jpg")
    with pytest.raises(exits.CannotRun, match=f"cannot list {tmp_path / 'b'}: permission denied"):
        next(files)


def test_a_folder_of_many_files_is_held_as_names(tmp_path):
    """Twenty thousand entries would be 6 MB and more."""
    import tracemalloc

    class Entry:
        def __init__(self, number):
            self.name = f"{number:06}.png"

        def is_symlink(self):
            return False

        def is_dir(self, follow_symlinks):
            return False

    class Many:
        def __enter__(self):
            return map(Entry, range(20_000))

        def __exit__(self, *_): ...

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "scandir", lambda folder: Many())
        tracemalloc.start()
        assert sum(1 for _ in images_below(tmp_path, LeftOut())) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2.5e6, f"{peak:,} bytes"
