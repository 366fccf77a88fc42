"""A hash of their content chooses the same examples as in 3ff22d4, which wrote splits.json."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from convoy.data.config import DataConfig
from convoy.data.sources.opening import open_dataset
from convoy.data.splits import train_and_eval
from support import DATA

SPLITS = Path(__file__).with_name("splits.json")
KINDS = ("written", "photographs", "digits")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def bitmap(chance: random.Random) -> bytes:
    """An image file whose bytes depend on no library."""
    width, height = chance.randint(1, 40), chance.randint(1, 40)
    row = 3 * width + -3 * width % 4
    head = struct.pack("<2sI4xI IiiHH24x", b"BM", 54 + row * height, 54, 40, width, height, 1, 24)
    return head + chance.randbytes(row * height)


def write(root: Path) -> None:
    """300 images, equal ones among them, some in folders within a class, and three that are bad."""
    chance = random.Random(14)
    for number in range(300):
        folder = root / "abc"[number % 3] / ("", "", "deeper/still")[chance.randrange(3)]
        folder.mkdir(parents=True, exist_ok=True)
        content = bitmap(chance)
        for copy in range(1 + (number % 50 == 0)):
            (folder / f"{number:03d}-{copy}.{chance.choice(['bmp', 'BMP', 'jpg'])}").write_bytes(content)
    (root / "a" / "text.png").write_bytes(b"this is no image")
    (root / "b" / "empty.png").touch()
    os.mkfifo(root / "c" / "pipe.jpg")


def held_out(kind: str, folder: Path, eval_split: str) -> list[str]:
    """The names, or numbers, of the examples that choose the best checkpoint."""
    if kind == "digits":
        config = DataConfig(eval_split=eval_split)
        train = open_dataset(config).split("train")
        _, chosen = train_and_eval(config, open_dataset(config))
        place = {image.tobytes(): str(index) for index, image in enumerate(train.images)}
        return [place[image.tobytes()] for image in chosen.images]
    if kind == "written":
        write(folder)
    else:
        for number, path in enumerate(sorted((DATA / "imagenet-sample").iterdir())):
            (folder / "ab"[number % 2]).mkdir(exist_ok=True)
            shutil.copy(path, folder / "ab"[number % 2] / path.name)
    config = DataConfig(f"folder:{folder}", image_size=8, eval_split=eval_split, bad_images="skip", max_bad_fraction=1)
    for _ in range(2):  # the second time from the cache of the folder
        _, chosen = train_and_eval(config, open_dataset(config))
        names = [path.removeprefix(f"{folder}/") for path in chosen.paths]
    return names


@pytest.mark.parametrize("eval_split", ["hash:0.1", "hash:0.5"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_examples_choose_the_best_checkpoint(kind, eval_split, tmp_path):
    if kind == "photographs" and not (DATA / "imagenet-sample").is_dir():
        pytest.skip(f"no photographs in {DATA}/imagenet-sample (CONVOY_TEST_DATA)")
    folder = tmp_path / "images"
    folder.mkdir()
    names = held_out(kind, folder, eval_split)
    assert len(np.unique(names)) == len(names) > 5
    assert names == json.loads(SPLITS.read_text())[f"{kind} {eval_split}"]
