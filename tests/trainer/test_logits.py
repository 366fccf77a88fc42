"""predictions.npz: every figure of a measurement follows from it, and a damaged one is refused."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from convoy import exits
from convoy.trainer.logits import ALL_UP_TO, TOP, Collector, Logits

SKIPPED = [3, 17]  # examples that cannot be read


def collected(classes: int, examples: int = 60, dtype: str = "float32") -> tuple[Logits, np.ndarray]:
    """What a collector makes of logits that come in three parts, and these logits."""
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes, examples, dtype=np.int32)
    every = (4 * generator.standard_normal((examples, classes))).astype(dtype)
    every[np.arange(examples), labels] += 6  # some are right
    collector, index = Collector(labels), np.setdiff1d(np.arange(examples), SKIPPED)
    for part in np.array_split(index, 3):
        collector(part, every[part])
    return collector.logits(), every[index]


@pytest.mark.parametrize("classes", [2, 10, ALL_UP_TO, ALL_UP_TO + 1, 5000])
def test_figures_are_those_of_all_logits(classes):
    found, every = collected(classes)
    assert found.index.tolist() == [index for index in range(60) if index not in SKIPPED]
    assert (found.shortened is not None) == (classes > ALL_UP_TO)
    assert found.logits.shape[1] == (classes if classes <= ALL_UP_TO else TOP)
    every = every.astype(np.float64)
    np.testing.assert_allclose(found.log_sum, np.log(np.exp(every).sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(found.confidence, softmax(every, axis=1).max(axis=1), rtol=1e-12)
    assert found.losses.mean() == pytest.approx(
        sklearn.metrics.log_loss(found.label, softmax(every, axis=1), labels=range(classes)), rel=1e-6
    )
    assert (found.guess == every.argmax(1)).mean() == 1
    assert (found.rank < 1).mean() == pytest.approx(sklearn.metrics.accuracy_score(found.label, found.guess))
    if classes > 5:
        expected = sklearn.metrics.top_k_accuracy_score(found.label, every, k=5, labels=range(classes))
        assert (found.rank < 5).mean() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("classes", [3, 1200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_is_read_as_it_was_written_and_by_numpy_too(classes, dtype):
    written, _ = collected(classes, dtype=dtype)
    data = written.to_bytes()
    read = Logits.from_bytes(data, classes, "predictions.npz of the run")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for name in ("index", "label", "logits"):
            assert arrays[name].dtype == getattr(written, name).dtype == getattr(read, name).dtype
            assert arrays[name].tobytes() == getattr(written, name).tobytes() == getattr(read, name).tobytes()
    assert read.to_bytes() == data
    assert (read.losses == written.losses).all()


def changed(found: Logits, **fields: np.ndarray) -> bytes:
    return dataclasses.replace(found, **fields).to_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: b"",
        lambda found: found.to_bytes()[:-1],
        lambda found: found.to_bytes().replace(found.label.tobytes(), found.label[::-1].tobytes()),
        lambda found: changed(found, label=found.label + 5),
        lambda found: changed(found, label=found.label - 5),
        lambda found: changed(found, label=found.label[:-1]),
        lambda found: changed(found, label=found.label.astype(np.int64)),
        lambda found: changed(found, index=found.index[::-1]),
        lambda found: changed(found, index=found.index - 1),
        lambda found: changed(found, logits=found.logits[:, :-1]),
        lambda found: changed(found, logits=found.logits.astype(np.int32)),
        lambda found: changed(found, logits=found.logits[:, :, None]),
    ],
)
def test_anything_else_is_refused_in_a_sentence(damage):
    found, _ = collected(5)
    with pytest.raises(exits.BadData, match=r"^the file DIR: the file .*; remove it, and measure the run again\.$"):
        Logits.from_bytes(damage(found), 5, "the file DIR")


def test_predictions_of_another_number_of_classes_are_refused():
    for written, read in ((5, 6), (5, 1200), (1200, 5)):
        with pytest.raises(exits.BadData):
            Logits.from_bytes(collected(written)[0].to_bytes(), read, "x")
