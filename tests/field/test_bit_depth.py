"""--bit_depth: PNG files of 16 bits that use 12 of them are as bright as they are meant to be, wherever they are read."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from packed_sets import pixels
from PIL import Image

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.images.listing import image_files
from convoy.data.images.view import View
from convoy.data.records.packing import pack
from convoy.data.sources.opening import open_dataset
from convoy.data.unlabelled import images_shown

HEIGHT, WIDTH = 12, 16
LEVELS = np.random.default_rng(4).integers(0, 4096, (4, HEIGHT, WIDTH, 3), dtype=np.uint16)


def write(root, levels: np.ndarray) -> str:
    """A folder of two deep grey images, two deep ones in colour and one of 8 bits."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    Image.fromarray(levels[0, ..., 0]).save(root / "cat" / "0.png")
    (root / "cat" / "1.png").write_bytes(tf.io.encode_png(levels[1]).numpy())
    Image.fromarray(levels[2, ..., 0]).save(root / "dog" / "2.png")
    (root / "dog" / "3.png").write_bytes(tf.io.encode_png(levels[3]).numpy())
    Image.fromarray((levels[0] >> 4).astype(np.uint8)).save(root / "dog" / "4.png")
    return f"folder:{root}"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write(tmp_path / "scans", LEVELS)


def images(name: str, **how: object) -> np.ndarray:
    return pixels(open_dataset(DataConfig(name, eval_split="none", **how)).split("train"))


def expected(bits: int) -> np.ndarray:
    deep = LEVELS.copy()
    deep[[0, 2]] = deep[[0, 2], ..., :1]  # grey
    scaled = np.minimum(deep >> (bits - 8), 255).astype(np.uint8)
    return np.concatenate([scaled, (LEVELS[:1] >> 4).astype(np.uint8)])


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_highest_eight_of_the_bits_that_are_used_are_taken(folder, bits):
    assert np.array_equal(images(folder, bit_depth=bits), expected(bits))


def test_records_of_pixels_show_the_same(folder, tmp_path):
    pack(DataConfig(folder, eval_split="none", bit_depth=12), tmp_path / "packed", 1 << 20)  # small, and of one size
    assert np.array_equal(images(f"records:{tmp_path / 'packed'}", bit_depth=12), expected(12))
    with pytest.raises(exits.CannotRun, match="--bit_depth=16 is not possible: .* were packed with --bit_depth=12"):
        open_dataset(DataConfig(f"records:{tmp_path / 'packed'}"))


@pytest.mark.thorough
def test_records_of_files_and_predictions_show_the_same(folder, tmp_path):
    Image.new("L", (90, 70)).save(tmp_path / "scans" / "dog" / "5.png")
    pack(DataConfig(folder, eval_split="none", bit_depth=12), tmp_path / "files", 1 << 20)
    how = {"bit_depth": 12, "image_size": 10}
    assert np.array_equal(images(f"records:{tmp_path / 'files'}", cache_bytes=0, **how), images(folder, **how))
    (batch,) = images_shown(image_files([folder.removeprefix("folder:")]), (10, 10, 3), View(10, bit_depth=12), 6)
    assert np.array_equal(batch.images, images(folder, **how))


def test_only_files_have_a_depth():
    with pytest.raises(
        exits.CannotRun, match="--bit_depth=12 is not possible: --dataset=digits has no files of 16 bits"
    ):
        DataConfig("digits", bit_depth=12)


@pytest.mark.parametrize(
    ("scale", "level", "bits"), [(1 / 16.5, 248, 8), (1, 4_095, 12), (3.9, 15_970, 14), (15, 0, 0)]
)
def test_dark_files_get_one_note(tmp_path, monkeypatch, capsys, scale, level, bits):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_dataset(DataConfig(write(tmp_path / "scans", (LEVELS * scale).astype(np.uint16)), eval_split="none"))
    notes = [line for line in capsys.readouterr().out.splitlines() if "bit_depth" in line]
    assert len(notes) == (bits > 0)
    assert not bits or (f"no level is above {level:,} in 4 " in notes[0] and f"--bit_depth={bits} " in notes[0])


def test_who_says_the_depth_and_who_has_no_deep_files_gets_none(folder, tmp_path, capsys):
    open_dataset(DataConfig(folder, eval_split="none", bit_depth=12))
    for path in (tmp_path / "scans").rglob("[0-3].png"):
        path.unlink()
    Image.new("L", (16, 12)).save(tmp_path / "scans" / "cat" / "9.png")
    open_dataset(DataConfig(folder, eval_split="none"))
    assert "bit_depth" not in capsys.readouterr().out
