"""--fit: images that are not square are cropped, padded or squashed, as Pillow does it, wherever they are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels
from PIL import Image

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.crop_geometry import centre_windows
from convoy.data.images.listing import image_files
from convoy.data.images.resize import resize_and_crop
from convoy.data.images.view import View
from convoy.data.opening import open_splits
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.unlabelled import images_shown
from convoy.store import open_store
from convoy.trainer.config import RunConfig
from convoy.trainer.models.pretrained.settle import _with
from convoy.trainer.run_dir import dataset

SIZE = 24
FITS = ("crop", "pad", "squash")
SHAPES = [(60, 84), (84, 60), (41, 97), (97, 41), (10, 17), (17, 10), (300, 7), (33, 33)]


def colours(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=-1).astype(np.uint8)


def padded(image: Image.Image, size: int) -> np.ndarray:
    """All of an image within a black square, by Pillow."""
    height, width = (max(1, int(side * size / max(image.size) + 0.5)) for side in (image.height, image.width))
    square = Image.new("RGB", (size, size))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square).astype(int)


def squashed(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize(("fit", "by_pillow"), [("pad", padded), ("squash", squashed)])
def test_a_whole_image_is_shown_as_pillow_shows_it(fit, by_pillow):
    for shape in SHAPES:
        image = colours(*shape)
        ours = resize_and_crop(tf.constant(image), View(SIZE, fit=fit)).numpy().astype(int)
        # Pillow rounds between its two passes.
        assert np.abs(ours - by_pillow(Image.fromarray(image), SIZE)).max() <= 2, shape


def test_what_needs_no_resizing_is_not_touched():
    image = colours(SIZE, 13)
    square = resize_and_crop(tf.constant(image), View(SIZE, fit="pad")).numpy()
    expected = np.zeros((SIZE, SIZE, 3), np.uint8)
    expected[:, 5:18] = image
    assert np.array_equal(square, expected)


def test_of_a_view_with_a_fraction_the_centre_is_shown():
    """As timm's crop modes `border` and `squash`: a side becomes 32 pixels, of which 4 are left out at either end."""
    for fit in ("pad", "squash"):
        whole = resize_and_crop(tf.constant(colours(200, 80)), View(32, fit=fit)).numpy().astype(int)
        part = resize_and_crop(tf.constant(colours(200, 80)), View(SIZE, 0.75, fit)).numpy().astype(int)
        assert np.abs(part - whole[4:-4, 4:-4])[1:-1, 7:-7].max() <= 8  # a cubic filter, and a triangle


def test_a_square_looks_the_same_with_any_fit():
    windows = {tuple(centre_windows(np.array([50]), np.array([50]), View(SIZE, fit=fit)).numpy()[0]) for fit in FITS}
    assert windows == {(0, 0, 50, 50)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of photographs, some lying, some standing, some turned by EXIF, small and large."""
    root = tmp_path_factory.mktemp("fit") / "photos"
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        Image.fromarray(colours(150, 230)).save(root / name / "lying.jpg", quality=95)
        Image.fromarray(colours(21, 9)).save(root / name / "standing.png")
        Image.fromarray(colours(64, 131)).save(root / name / "turned.jpg", quality=95, exif=exif)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("fit", ["pad", pytest.param("squash", marks=pytest.mark.thorough)])
def test_every_way_to_read_an_image_shows_the_same(folder, tmp_path, fit):
    def images(name: str, **how: object) -> np.ndarray:
        config = DataConfig(name, image_size=SIZE, fit=fit, eval_split="none", **how)
        return pixels(open_dataset(config).split("train"))

    expected = images(f"folder:{folder}", cache_bytes=0)
    for place, image in zip(sorted(folder.rglob("*.*")), expected, strict=True):
        with Image.open(place) as file:
            upright = file.transpose(Image.Transpose.ROTATE_270) if "turned" in place.name else file
            by_pillow = {"pad": padded, "squash": squashed}[fit](upright.convert("RGB"), SIZE)
        # A decoder that reduces a JPEG filters in another way.
        assert np.abs(image.astype(int) - by_pillow).max() <= 6, place.name
    assert np.array_equal(expected, images(f"folder:{folder}"))  # from memory
    pack(DataConfig(f"folder:{folder}", eval_split="none"), tmp_path / "files", 1 << 20)
    records = images(f"records:{tmp_path / 'files'}", cache_bytes=0)
    turned = [index for index, path in enumerate(sorted(folder.rglob("*.*"))) if "turned" in path.name]
    assert np.array_equal(np.delete(expected, turned, 0), np.delete(records, turned, 0))
    # Turned before it is resized, by a decoder that cannot reduce it: docs/records.md.
    assert np.abs(expected[turned].astype(int) - records[turned]).max() <= 6
    squares = DataConfig(f"folder:{folder}", eval_split="none", image_size=SIZE, fit=fit)
    pack(squares, tmp_path / "pixels", 1 << 20)
    assert np.array_equal(expected, images(f"records:{tmp_path / 'pixels'}"))
    (shown,) = images_shown(image_files([str(folder)]), (SIZE, SIZE, 3), View(SIZE, fit=fit), 6)
    assert np.array_equal(expected, shown.images)


def test_records_of_pixels_are_read_by_the_fit_that_they_were_packed_with(folder, tmp_path):
    squares = DataConfig(f"folder:{folder}", eval_split="none", image_size=SIZE, fit="pad")
    pack(squares, tmp_path / "packed", 1 << 20)
    with pytest.raises(exits.CannotRun, match="--fit=crop is not possible: .* were packed with --fit=pad; give that"):
        open_dataset(DataConfig(f"records:{tmp_path / 'packed'}"))
    with pytest.raises(exits.CannotRun, match="another packing: fit was pad and is crop"):
        pack(DataConfig(f"folder:{folder}", eval_split="none", image_size=SIZE), tmp_path / "packed", 1 << 20)


def test_the_fit_travels_with_the_model_and_is_crop_in_older_runs(folder, tmp_path):
    store = open_store(str(tmp_path / "run"))
    config = DataConfig(f"folder:{folder}", eval_split="none", image_size=SIZE, fit="pad")
    dataset.write(store, open_splits(config))
    assert dataset.read(store).preprocessing.view == config.view == View(SIZE, fit="pad")
    place = tmp_path / "run" / "dataset.json"
    values = json.loads(place.read_text())
    values["preprocessing"] = {"image_size": SIZE, "divide_by": 255}
    place.write_text(json.dumps(values))
    assert dataset.read(store).preprocessing.view == View(SIZE)


def test_weights_that_were_measured_on_a_crop_do_not_cut_off_what_pad_keeps():
    for fit, fraction in (("crop", 0.875), ("pad", None)):
        config = RunConfig(data=DataConfig("folder:photos", fit=fit), model="resnet18")
        assert _with(config, "resnet18", 224, 0.875).data.crop_fraction == fraction
