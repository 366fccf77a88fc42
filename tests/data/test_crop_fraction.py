"""--crop_fraction: the shorter side is brought to more pixels than are shown, as evaluations of published networks do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convoy.data.config import DataConfig
from convoy.data.images.crop_geometry import centre_windows
from convoy.data.images.view import View
from convoy.data.opening import open_splits
from convoy.store import open_store
from convoy.trainer.run_dir import dataset

pytestmark = pytest.mark.slow  # graphs


def window(height: int, width: int, size: int, fraction: float = 1.0) -> list[float]:
    return centre_windows(tf.constant([height]), tf.constant([width]), View(size, fraction))[0].numpy().tolist()


def test_the_window_is_that_of_timm():
    # 300 pixels become 256, of which 16 are left out at either end; 512 pixels become 437, 213 of which are left out.
    top, left, height, width = window(300, 512, 224, 0.875)
    assert (top, height) == pytest.approx((16 * 300 / 256, 224 * 300 / 256))
    assert (left, width) == pytest.approx(((437 - 224) // 2 * 512 / 437, 224 * 512 / 437))
    assert window(300, 512, 224, 0.95)[2] == pytest.approx(224 * 300 / 235)  # 224 / 0.95 is cut off


@pytest.mark.parametrize("sides", [(300, 512), (512, 300), (17, 17), (1, 20_000_000)])
def test_without_a_fraction_it_is_what_it_was(sides):
    height, width = sides
    scaled = [-(-side * 224 // min(sides)) for side in sides]
    pixel = [np.float32(side) / np.float32(full) for side, full in zip(sides, scaled, strict=True)]
    corner = [np.float32((full - 224) // 2) * step for full, step in zip(scaled, pixel, strict=True)]
    assert window(height, width, 224) == [*corner, *(np.float32(224) * step for step in pixel)]


@pytest.fixture
def folder(tmp_path):
    """Two classes of images that are white but for a black border of an eighth on each side."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[8:-8, 8:-8] = 255
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_border_is_cut_off(folder, cache_bytes):
    def shown(**how: float) -> np.ndarray:
        config = DataConfig(f"folder:{folder}", eval_split="none", image_size=24, cache_bytes=cache_bytes, **how)
        train = open_splits(config).train
        return train.select(np.array([1, 4])).fetcher()(tf.constant([0, 1], tf.int64), None).images.numpy()

    assert shown(crop_fraction=0.75)[:, 1:-1, 1:-1].min() > 250  # the filter reaches a pixel beyond the window
    assert shown()[:, 1:-1, 1:-1].min() == 0
    assert np.array_equal(shown(), shown(crop_fraction=1.0))


def test_other_sources_cut_it_off_too():
    splits = [open_splits(DataConfig("digits", image_size=8, crop_fraction=fraction)) for fraction in (None, 0.5)]
    whole, part = (data.train.fetcher()(tf.constant([0], tf.int64), None).images.numpy() for data in splits)
    assert whole.shape == part.shape == (1, 8, 8, 1)
    assert not np.array_equal(whole, part)


def test_it_is_recorded_and_one_in_older_runs(folder, tmp_path):
    store = open_store(str(tmp_path / "run"))
    dataset.write(
        store, open_splits(DataConfig(f"folder:{folder}", eval_split="none", image_size=24, crop_fraction=0.75))
    )
    assert dataset.read(store).preprocessing.crop_fraction == 0.75
    place = tmp_path / "run" / "dataset.json"
    values = json.loads(place.read_text())
    del values["preprocessing"]["crop_fraction"]
    place.write_text(json.dumps(values))
    assert dataset.read(store).preprocessing.crop_fraction == 1.0
