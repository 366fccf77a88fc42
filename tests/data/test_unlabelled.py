"""Images of files without labels: the pixels of an evaluation, and what cannot be read in its place."""

from __future__ import annotations

import collections
import itertools
import os
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.formats import UNKNOWN
from convoy.data.images.listing import ImageFile, image_files
from convoy.data.images.view import View
from convoy.data.pipeline import evaluation_batches
from convoy.data.sources.opening import open_dataset
from convoy.data.unlabelled import images_shown
from support import write_images

pytestmark = pytest.mark.slow  # networks


def write_odd_images(folder) -> None:
    """Of every kind that is decoded in a way of its own, 84x60 pixels once upright."""
    y, x = np.mgrid[0:60, 0:84]
    colour = Image.fromarray(np.stack([x * 3, y * 4, (x + y) * 1.7], axis=-1).astype(np.uint8))
    alpha = colour.convert("RGBA")
    alpha.putalpha(Image.fromarray((x * 3).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.mkdir(parents=True)
    colour.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    colour.save(folder / "plain.jpg", quality=95)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("L").save(folder / "grey.jpg")
    alpha.save(folder / "alpha.png")
    alpha.convert("LA").save(folder / "grey and alpha.png")
    colour.quantize(16).save(folder / "palette.png")
    Image.fromarray((x * 700).astype(np.uint16)).save(folder / "16 bits.png")
    colour.save(folder / "plain.webp", lossless=True)
    colour.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", (84, 60))])
    colour.save(folder / "plain.bmp")


SHOWN = [(16, 0.8), *(pytest.param(*how, marks=pytest.mark.thorough) for how in ((0, 1.0), (16, 1.0), (100, 1.0)))]


@pytest.mark.parametrize(("size", "fraction"), SHOWN)
def test_a_file_is_shown_as_an_evaluation_shows_it(tmp_path, monkeypatch, size, fraction):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_odd_images(tmp_path / "photos" / "cat")
    (tmp_path / "photos" / "dog").mkdir()
    shutil.copy(tmp_path / "photos" / "cat" / "plain.jpg", tmp_path / "photos" / "dog" / "plain.jpg")
    crop = {"crop_fraction": fraction} if size else {}
    config = DataConfig(f"folder:{tmp_path / 'photos'}", image_size=size, eval_split="none", cache_bytes=0, **crop)
    dataset = open_dataset(config)
    expected = np.concatenate([images for images, *_ in evaluation_batches(dataset.split("train"), 12)])
    files = image_files([str(tmp_path / "photos")])
    batches = list(images_shown(files, dataset.image_shape, View(size, fraction), 5))
    assert [len(batch.files) for batch in batches] == [5, 5, 2]
    assert not any(file.reason for batch in batches for file in batch.files)
    shown = np.concatenate([batch.images[batch.rows >= 0] for batch in batches])
    assert np.array_equal(shown, expected)


def test_colour_becomes_grey_as_pillow_has_it_grey_stays_and_another_size_is_refused(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (64, 60, 3), np.uint8)
    greys = np.arange(3840).reshape(64, 60).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "1.png")
    Image.fromarray(greys).save(tmp_path / "2.png")
    Image.fromarray(greys.T.copy()).save(tmp_path / "3.png")
    (batch,) = images_shown(image_files([str(tmp_path)]), (64, 60, 1), View(), 4)
    assert np.array_equal(batch.images[0, ..., 0], np.asarray(Image.fromarray(colours).convert("L")))
    assert np.array_equal(batch.images[1, ..., 0], greys)
    assert [file.reason for file in batch.files] == [
        "", "", "is 64x60 pixels, and the run's images are 60x64 (a run with --image_size takes any size)"
    ]  # fmt: skip
    assert batch.rows.tolist() == [0, 1, -1, -1]


def test_files_are_read_a_few_batches_ahead_until_their_listing_fails(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    asked = itertools.count()

    def files() -> Iterator[ImageFile]:
        while next(asked) < 1000:
            yield ImageFile(str(tmp_path / "a.png"))
        raise exits.CannotRun("cannot list it.")

    stream = images_shown(files(), (8, 8, 1), View(), 16)
    assert [len(next(stream).files) for _ in range(3)] == [16] * 3
    time.sleep(0.5)
    assert next(asked) < 16 * 40
    with pytest.raises(exits.CannotRun, match="cannot list it"):
        collections.deque(stream, 0)
    assert next(asked) > 1000


@pytest.fixture
def odd(tmp_path):
    """Three images among what is none."""
    folder = tmp_path / "odd"
    write_images(folder, ("a", "b"), each=2)
    (folder / "text.png").write_text("\x1b[2Jno image")
    whole = (folder / "b" / "001.png").read_bytes()
    (folder / "b" / "001.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "pipe.png")
    (folder / "away.jpg").symlink_to(folder / "absent")
    (folder / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_what_cannot_be_read_is_named_in_its_place(odd):
    places = [odd / "odd", odd / "empty", odd / "none*.png", odd / "odd" / "notes.txt", odd / "odd" / "a" / "0*"]
    batches = list(images_shown(image_files(map(str, places)), (8, 8, 3), View(8), 3))
    reasons = {file.path.removeprefix(f"{odd}/"): file.reason for batch in batches for file in batch.files}
    assert list(reasons) == [
        "odd/a/000.jpg", "odd/a/001.png", "odd/away.jpg", "odd/b/000.jpg", "odd/b/001.png", "odd/pipe.png", "odd/text.png",
        "empty", "none*.png", "odd/notes.txt",
    ]  # fmt: skip
    assert [name for name, reason in reasons.items() if not reason] == [
        "odd/a/000.jpg",
        "odd/a/001.png",
        "odd/b/000.jpg",
    ]
    assert reasons["odd/away.jpg"] == "cannot be read: no such file or directory"
    assert reasons["odd/b/001.png"].startswith("cannot be decoded: ")
    assert reasons["odd/pipe.png"] == "cannot be read: it is no regular file"
    assert reasons["odd/text.png"] == f"cannot be decoded: {UNKNOWN}"
    assert reasons["empty"] == "holds no image"
    assert reasons["none*.png"] == "matches no file"
    for batch in batches:
        assert batch.rows[batch.rows >= 0].tolist() == [row for row, file in enumerate(batch.files) if not file.reason]
        assert not batch.images[batch.rows < 0].any()
