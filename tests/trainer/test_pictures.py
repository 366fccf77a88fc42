"""pictures.npz: what the run keeps is what its network sees, and what its first steps saw."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.trainer import figures
from convoy.trainer.logits import Logits
from convoy.trainer.report import pictures
from convoy.trainer.report.pictures import Pictures


def random_logits(labels: np.ndarray, classes: int) -> Logits:
    logits = np.random.default_rng(0).standard_normal((len(labels), classes)).astype(np.float32)
    return Logits(np.arange(len(labels)), labels.astype(np.int32), logits)


@pytest.mark.parametrize("augment", ["none", "article"])
def test_pictures_are_of_the_examples_that_the_page_shows(augment):
    data = open_splits(DataConfig("digits", augment=augment))
    examples = data.final[1]
    logits = random_logits(examples.labels, 10)
    kept = pictures.keep(data, logits, seed=3)
    shown = {*figures.worst(logits, pictures.EACH).tolist(), *figures.least_certain(logits, pictures.EACH).tolist()}
    assert kept.index.tolist() == sorted(shown)
    theirs = np.asarray(examples.fetcher()(kept.index, None).images)
    np.testing.assert_array_equal(kept.images, theirs)
    if augment == "none":
        assert len(kept.originals) == len(kept.augmented) == 0
        return
    batch = next(training_stream(data.train, BatchSharding(8), data.config, 3, 0).as_numpy_iterator())
    np.testing.assert_array_equal(kept.augmented, batch.images)
    assert (kept.originals != kept.augmented).any()
    again = Pictures.from_bytes(kept.to_bytes(), "p")
    for name in ("index", "images", "originals", "augmented"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(again, name))
    assert kept.sources(np.array([kept.index[1], 10**6]))[1] == ""


@pytest.mark.parametrize(("shape", "expected"), [
    ((300, 200, 3), (128, 85, 3)), ((128, 128, 1), (128, 128, 1)), ((40, 30, 4), (40, 30, 3)), ((40, 30, 2), (40, 30, 1)),
    ((3000, 2, 3), (128, 1, 3)),
])  # fmt: skip
def test_large_pictures_are_made_small(monkeypatch, shape, expected):
    data = open_splits(DataConfig(f"synthetic:{'x'.join(map(str, shape))}:3:20", eval_split="none"))
    kept = pictures.keep(data, random_logits(data.final[1].labels, 3), seed=0)
    assert kept.images.shape[1:] == expected
    assert len(kept.to_bytes()) <= pictures.MOST_BYTES
    Pictures.from_bytes(kept.to_bytes(), "p")


def test_a_picture_can_be_looked_at():
    colours = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    form, _, text = pictures.data_uri(colours).partition(",")
    assert form == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), colours)
    grey = np.full((100, 90, 1), 77, np.uint8)
    form, _, text = pictures.data_uri(grey).partition(",")
    assert form == "data:image/jpeg;base64"
    assert np.abs(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int) - 77).max() <= 2
