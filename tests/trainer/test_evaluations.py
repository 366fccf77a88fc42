"""What `convoy evaluate` measures besides: each figure is another library's, or one that is known."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.data.pipeline import evaluation_batches
from convoy.data.sources.changed import Changed
from convoy.trainer.evaluations import calibration, corrupted, ood, top_k, tta
from convoy.trainer.evaluations.measuring import Measuring
from convoy.trainer.evaluations.names import ADDITIONS, VIEWS
from convoy.trainer.logits import Collector, Logits
from convoy.trainer.verbs.evaluate import EvaluateConfig


def drawn(examples: int, classes: int = 5, skill: float = 2.0, scale: float = 1.0, seed: int = 0) -> Logits:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, examples, dtype=np.int32)
    rows = generator.standard_normal((examples, classes)) * 1.5
    rows[np.arange(examples), labels] += skill
    collector = Collector(labels)
    collector(np.arange(examples), (rows * scale).astype(np.float32))
    return collector.logits()


def measuring(logits: Logits, more: Logits | None = None, split: str = "test", classes: int = 5) -> Measuring:
    """A run whose next measurement gives `more`."""
    data = SimpleNamespace(dataset=SimpleNamespace(class_names=("",) * classes), held_out=more and [None] * len(more))
    own = Measuring(SimpleNamespace(data=data), split, None, logits, lambda: False)
    object.__setattr__(own, "measure", lambda examples: more)
    return own


def test_every_row_is_a_flag_and_every_flag_a_row():
    assert {*ADDITIONS} <= {field.name for field in dataclasses.fields(EvaluateConfig)}
    asked = EvaluateConfig("run", top_k=3, calibration=True, tta="flip", corruptions="fog", ood="digits")
    assert [*asked.additions] == [*ADDITIONS]
    assert EvaluateConfig("run").additions == {}
    assert all(callable(ADDITIONS.load(name)) for name in ADDITIONS)


def test_top_k_is_scikit_learns():
    logits = drawn(500)
    for k in (1, 2, 3, 4):
        values, lines = top_k.measure(measuring(logits), k)
        theirs = sklearn.metrics.top_k_accuracy_score(logits.label, logits.logits, k=k, labels=range(5))
        assert values["accuracy"] == pytest.approx(theirs, abs=1e-12)
        assert values["interval"][0] < theirs < values["interval"][1]
        assert f"among the {k} most probable: {theirs:.2%}" in lines[0]
    with pytest.raises(exits.CannotRun, match="--top_k=5 is right by itself: the run has 5 classes"):
        top_k.measure(measuring(logits), 5)


def test_the_temperature_has_the_smallest_loss_and_undoes_a_scale():
    held_out = drawn(4000)

    def loss(temperature: float) -> float:
        probabilities = softmax(held_out.logits.astype(np.float64) / temperature, axis=1)
        return sklearn.metrics.log_loss(held_out.label, probabilities, labels=range(5))

    plain = calibration.fit(held_out)
    assert all(loss(plain) <= loss(plain * factor) for factor in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1))
    larger = dataclasses.replace(held_out, logits=held_out.logits * 3)
    assert calibration.fit(larger) == pytest.approx(3 * plain, rel=1e-4)


def test_calibration_before_and_after_is_scikit_learns():
    logits, held_out = drawn(3000, scale=3.0, seed=1), drawn(3000, scale=3.0, seed=2)
    values, lines = calibration.measure(measuring(logits, held_out), True)
    for name, temperature in (("before", 1.0), ("after", values["temperature"])):
        probabilities = softmax(logits.logits.astype(np.float64) / temperature, axis=1)
        assert values[name]["loss"] == pytest.approx(
            sklearn.metrics.log_loss(logits.label, probabilities, labels=range(5))
        )
        theirs = np.square(probabilities - np.eye(5)[logits.label]).sum(axis=1).mean()
        assert values[name]["brier"] == pytest.approx(theirs)
    assert values["after"]["ece"] < values["before"]["ece"] / 2
    assert values["fitted_on"] == 3000
    assert f"with the temperature {values['temperature']:.3f}, fitted on 3,000 eval examples" in lines[0]


def test_a_temperature_is_not_fitted_on_what_is_measured():
    logits = drawn(50)
    with pytest.raises(exits.CannotRun, match="measure another split than eval"):
        calibration.measure(measuring(logits, logits, split="eval"), True)
    with pytest.raises(exits.CannotRun, match="held none out"):
        calibration.measure(measuring(logits), True)
    many = drawn(50, classes=1200)
    for addition in (calibration, tta):
        with pytest.raises(exits.CannotRun, match="needs all logits, and of 1,200 classes only the largest are kept"):
            addition.measure(measuring(many, many, classes=1200), "flip")


def test_views_are_averaged_by_their_probabilities():
    every = [drawn(200, seed=seed) for seed in range(3)]
    every = [dataclasses.replace(each, label=every[0].label) for each in every]
    mean = tta.mean(every)
    theirs = np.mean([softmax(each.logits.astype(np.float64), axis=1) for each in every], axis=0)
    np.testing.assert_allclose(softmax(mean.logits, axis=1), theirs, rtol=1e-12)
    np.testing.assert_allclose(mean.losses, -np.log(theirs[np.arange(200), mean.label]), rtol=1e-9)


def test_views_are_what_they_are_called():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    (mirror,) = VIEWS.load("flip")()
    np.testing.assert_array_equal(mirror(images)[:, :, 0], images[:, :, -1])
    up, down, left, right = (view(images) for view in VIEWS.load("shift")())
    np.testing.assert_array_equal(up[:, :30], images[:, 2:])
    np.testing.assert_array_equal(up[:, 30:], images[:, [31, 31]])
    np.testing.assert_array_equal(down[:, 2:], images[:, :30])
    np.testing.assert_array_equal(left[:, :, :45], images[:, :, 3:])
    np.testing.assert_array_equal(right[:, :, 3:], images[:, :, :45])
    assert len(VIEWS.load("flip_shift")()) == 9
    assert all(view(images[:1, :8, :8]).shape == (1, 8, 8, 3) for view in VIEWS.load("flip_shift")())


def test_scores_of_other_data_are_judged_as_scikit_learn_does():
    own, other = drawn(400, skill=4.0), drawn(300, skill=0.0, seed=1)
    truth = np.repeat([1, 0], [400, 300])
    for name, ours in ood.scores(own).items():
        theirs = ood.scores(other)[name]
        scores = np.concatenate([ours, theirs])
        assert ood.auroc(ours, theirs) == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores), abs=1e-12)
        false, true, _ = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
        assert ood.fpr95(ours, theirs) == pytest.approx(false[true >= 0.95].min(), abs=1e-12)
    assert ood.auroc(np.ones(3), np.ones(4)) == 0.5
    assert ood.auroc(np.array([1.0, np.nan]), np.array([0.0])) == 0.5, "what is no number is the smallest"


def test_changed_examples_are_changed_in_every_batch():
    examples = open_splits(DataConfig("digits")).final[1]
    changed = Changed(examples, lambda images, indices: (images + indices[:, None, None, None]).astype(np.uint8))
    plain, other = (next(evaluation_batches(each, 64).as_numpy_iterator()) for each in (examples, changed))
    np.testing.assert_array_equal(other[0], (plain[0] + np.arange(64)[:, None, None, None]).astype(np.uint8))
    np.testing.assert_array_equal(other[1], plain[1])
    assert (len(changed), changed.shape) == (len(examples), examples.shape)
    part = Changed(examples, labels=np.zeros(len(examples), np.int32)).select(np.array([5, 6]))
    batch = next(evaluation_batches(part, 2).as_numpy_iterator())
    np.testing.assert_array_equal(batch[0], plain[0][5:7])
    assert batch[1].tolist() == [0, 0]


def test_corruptions_are_measured_at_each_severity():
    examples = open_splits(DataConfig("digits")).final[1]
    asked = []

    def measure(changed: Changed) -> Logits:
        images = next(evaluation_batches(changed, 8).as_numpy_iterator())[0]
        asked.append(images)
        return dataclasses.replace(clean, label=np.roll(clean.label, len(asked)))

    clean = drawn(100)
    own = measuring(clean)
    object.__setattr__(own, "examples", examples)
    object.__setattr__(own, "measure", measure)
    object.__setattr__(own.experiment, "config", SimpleNamespace(seed=0))
    values, lines = corrupted.measure(own, "contrast,gaussian_noise")
    assert {*values["accuracy"]} == {"contrast", "gaussian_noise"}
    shares = [(np.roll(clean.label, turn) == clean.guess).mean() for turn in range(1, 11)]
    measured = [share for of_severities in values["accuracy"].values() for share in of_severities]
    assert measured == pytest.approx(shares)
    assert values["mean_accuracy"] == pytest.approx(np.mean(shares))
    assert len({images.tobytes() for images in asked}) == 10
    assert any(line.split()[0] == "contrast" for line in lines[2:])
