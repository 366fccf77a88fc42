"""Losses and their gradients against NumPy on both backends, exact sums, the best evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.balance import draws_per_class
from convoy.data.specs import BalanceSpec
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loop.progress import Progress
from convoy.trainer.losses.build import build_loss, class_weights
from convoy.trainer.losses.cross_entropy import cross_entropy
from convoy.trainer.losses.names import LOSSES, LossSpec
from convoy.trainer.metrics import EvaluationSums
from support import environment, once

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(20, 7)) * 5, RNG.integers(0, 7, 20)

DRAWS = np.array([500, 200, 90, 40, 17, 3, 1])
CASES = ["cross_entropy", "focal", "focal:0.5", "weighted", "weighted:0.99", "balanced_softmax", "logit_adjusted:1.5"]
# Mixed with another, mixed with their like, alone, and not counted at all.
PAIRS = np.stack([LABELS, np.roll(LABELS, 1)], axis=1).astype(np.int32)
WEIGHTS = np.stack([np.linspace(1, 0.3, 20), 1 - np.linspace(1, 0.3, 20)], axis=1)
WEIGHTS[5], WEIGHTS[6] = [1, 0], [0, 0]
PAIRS[7] = 3


def reference(smoothing: float) -> np.ndarray:
    log_p = (
        LOGITS
        - np.log(np.exp(LOGITS - LOGITS.max(1, keepdims=True)).sum(1, keepdims=True))
        - LOGITS.max(1, keepdims=True)
    )
    target = np.eye(7)[LABELS] * (1 - smoothing) + smoothing / 7
    return -(target * log_p).sum(1)


def test_every_loss_is_a_case():
    assert {loss.partition(":")[0] for loss in CASES} == set(LOSSES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy(smoothing):
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        loss = cross_entropy(tf.constant(LOGITS, dtype), tf.constant(LABELS), smoothing)
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss.numpy(), reference(smoothing), rtol=tolerance, atol=tolerance / 10)


def by_hand(loss: str, smoothing: float, logits: np.ndarray) -> np.ndarray:
    """The papers' formulas, an example and a label at a time, in float64."""
    kind, _, number = loss.partition(":")
    frequencies = DRAWS / DRAWS.sum()
    weights, gamma, added = np.ones(7), 0.0, np.zeros(7)
    if kind == "weighted":
        beta = float(number or 0)
        weights = 1 / np.array([sum(beta**k for k in range(n)) for n in DRAWS] if beta else DRAWS)
        weights /= sum(frequencies * weights)
    if kind == "focal":
        gamma = float(number or 2)
    if kind == "logit_adjusted":
        added = float(number) * np.log(frequencies)
    if kind == "balanced_softmax":
        added = np.log(DRAWS)
    found = np.zeros(20)
    for row in range(20):
        z = logits[row] + added
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        for label, weight in zip(PAIRS[row], WEIGHTS[row], strict=True):
            target = (1 - smoothing) * np.eye(7)[label] + smoothing / 7
            found[row] -= weight * weights[label] * (target * (1 - p) ** gamma * np.log(p)).sum()
    return found


def slopes(loss: str, smoothing: float) -> np.ndarray:
    """The gradient of the sum, by central differences."""
    found, step = np.zeros_like(LOGITS), 1e-5
    for column in range(7):
        moved = step * np.eye(7)[column]
        found[:, column] = by_hand(loss, smoothing, LOGITS + moved) - by_hand(loss, smoothing, LOGITS - moved)
    return found / (2 * step)


ON_JAX = """
import sys
import jax, keras, numpy

from convoy.trainer.losses.build import build_loss
from convoy.trainer.losses.names import LOSSES, LossSpec
assert keras.backend.backend() == "jax"
with numpy.load(sys.argv[1]) as given:
    logits, pairs, label_weights, draws = (given[name] for name in ("logits", "pairs", "label_weights", "draws"))
found = {}
for name in sys.argv[3:]:
    for smoothing in (0.0, 0.1):
        loss = build_loss(LossSpec.parse(name), smoothing, draws)
        found[f"{name} {smoothing} values"] = loss(logits, pairs, label_weights)
        found[f"{name} {smoothing} slopes"] = jax.grad(lambda logits: loss(logits, pairs, label_weights).sum())(logits)
    # All that is wanted of p = 1 is that it does no harm.
    loss = build_loss(LossSpec.parse(name), 0.0, draws)
    sure = numpy.float32([[1e4, 0, 0, 0, 0, 0, -1e4]])
    pair, weight = numpy.int32([[0, 0]]), numpy.float32([[1, 0]])
    found[f"{name} sure"] = jax.grad(lambda logits: loss(logits, pair, weight).sum())(sure)
numpy.savez(sys.argv[2], **found)
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory) -> dict[str, np.ndarray]:
    pytest.importorskip("jax")

    def make(folder: Path) -> None:
        np.savez(folder / "given.npz", logits=LOGITS, pairs=PAIRS, label_weights=WEIGHTS, draws=DRAWS)
        done = subprocess.run(
            [sys.executable, "-P", "-c", ON_JAX, folder / "given.npz", folder / "found.npz", *CASES],
            env=environment(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1"),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    with np.load(once(tmp_path_factory, "losses", make) / "found.npz") as found:
        return dict(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", CASES)
def test_losses_and_gradients_are_the_papers_on_both_backends(loss, smoothing, on_jax):
    logits, of = tf.constant(LOGITS), build_loss(LossSpec.parse(loss), smoothing, DRAWS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = of(logits, tf.constant(PAIRS), tf.constant(WEIGHTS))
    assert values.dtype == tf.float64
    for found in (values.numpy(), on_jax[f"{loss} {smoothing} values"]):
        np.testing.assert_allclose(found, by_hand(loss, smoothing, LOGITS), rtol=1e-10, atol=1e-12)
        assert found[6] == 0, "an image that could not be read"
    for found in (tape.gradient(values, logits).numpy(), on_jax[f"{loss} {smoothing} slopes"]):
        np.testing.assert_allclose(found, slopes(loss, smoothing), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", CASES)
def test_a_sure_answer_and_low_precision_do_no_harm(loss, on_jax):
    of = build_loss(LossSpec.parse(loss), 0.0, DRAWS)
    sure = tf.constant([[1e4, 0, 0, 0, 0, 0, -1e4]])
    with tf.GradientTape() as tape:
        tape.watch(sure)
        value = of(sure, tf.constant([[0, 0]]), tf.constant([[1.0, 0.0]]))
    assert abs(value.numpy()[0]) < 1e-6
    for slope in (tape.gradient(value, sure).numpy(), on_jax[f"{loss} sure"]):
        np.testing.assert_allclose(slope, np.zeros((1, 7)), atol=1e-6)
    for dtype in (tf.bfloat16, tf.float16):
        found = of(tf.cast(LOGITS, dtype), tf.constant(PAIRS), tf.constant(WEIGHTS, tf.float32))
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, by_hand(loss, 0.0, tf.cast(LOGITS, dtype).numpy().astype(float)), rtol=1e-4)


def test_class_weights_have_the_mean_1_over_the_stream():
    draws = np.array([900, 90, 0, 10])
    for beta in (0.5, 0.999, 1.0):
        weights = class_weights(draws, beta)
        assert weights @ draws == pytest.approx(draws.sum(), rel=1e-12)
        assert weights[2] == 0, "no label asks for it"
    np.testing.assert_allclose(class_weights(draws, 1.0), [1000 / 2700, 1000 / 270, 0, 1000 / 30])
    # By hand: (1 - 0.5**n) / 0.5 is 2 for all three, to nine digits but for the last class.
    np.testing.assert_allclose(class_weights(draws, 0.5), [1, 1, 0, 1], rtol=1e-3)


def test_what_is_corrected_are_the_frequencies_of_the_stream():
    """Where --balance draws all classes equally often there is nothing left to correct."""
    counts, given = DRAWS * 7, (tf.constant(LOGITS), tf.constant(PAIRS), tf.constant(WEIGHTS))
    plain = build_loss(LossSpec.parse("cross_entropy"), 0.1, counts)(*given)
    for loss in ("balanced_softmax", "logit_adjusted:2", "weighted", "weighted:0.99"):
        equal, root, own = (
            build_loss(LossSpec.parse(loss), 0.1, draws_per_class(counts, BalanceSpec.parse(balance)))(*given)
            for balance in ("undersample", "sqrt", "none")
        )
        np.testing.assert_allclose(equal, plain, rtol=1e-12)
        assert np.abs(root - plain).max() > 1e-2
        assert np.abs(own - root).max() > 1e-2


@pytest.mark.parametrize("loss", ["balanced_softmax", "logit_adjusted:0.5"])
def test_a_class_without_examples_has_no_frequency(loss):
    with pytest.raises(exits.CannotRun, match=f"--loss={loss} needs .* class 1 of 3, counted from 0, has none; add"):
        build_loss(LossSpec.parse(loss), 0.0, np.array([3, 0, 0]))


def test_huge_and_bfloat16_logits_stay_finite():
    assert cross_entropy(tf.constant([[1e4, -1e4]]), tf.constant([1])).numpy() == pytest.approx([2e4])
    loss = cross_entropy(tf.cast(LOGITS, tf.bfloat16), tf.constant(LABELS))
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss.numpy(), reference(0.0), rtol=0.05, atol=0.05)


def test_per_class_numbers():
    sums = EvaluationSums.zero(3)
    more = EvaluationSums(2.0, 4, 3, 4, np.array([2, 2, 0]), np.array([3, 1, 0]), np.array([2, 1, 0]))
    sums.add(more)
    assert sums.metrics() == {"loss": 0.5, "accuracy": 0.75}
    table = sums.per_class(("a", "b", "c"))
    assert table["a"] == {"count": 2, "recall": 1.0, "precision": pytest.approx(2 / 3)}
    assert table["b"] == {"count": 2, "recall": 0.5, "precision": 1.0}
    assert table["c"] == {"count": 0, "recall": None, "precision": None}


def test_groups_by_training_examples():
    names, trained = tuple("abcdef"), np.array([500, 101, 100, 20, 19, 0])
    count = np.array([10, 20, 10, 0, 10, 10])
    hit = np.array([9, 10, 7, 0, 1, 2])
    found = EvaluationSums(30.0, 60, 29, 40, count, count, hit).measurement(names, trained)
    assert list(found) == [
        "examples", "loss", "accuracy", "top5_accuracy", "mean_recall", "groups", "per_class"
    ]  # fmt: skip
    assert found["examples"] == 60
    assert found["mean_recall"] == pytest.approx((0.9 + 0.5 + 0.7 + 0.1 + 0.2) / 5)
    assert found["groups"] == {
        "many": {"classes": 2, "examples": 30, "recall": pytest.approx(0.7)},
        "medium": {"classes": 2, "examples": 10, "recall": pytest.approx(0.7)},
        "few": {"classes": 2, "examples": 20, "recall": pytest.approx(0.15)},
    }
    assert found["per_class"]["b"]["recall"] == 0.5
    few = EvaluationSums(1.0, 60, 29, 40, count, count, hit).measurement(names, np.full(6, 101))["groups"]["few"]
    assert few == {"classes": 0, "examples": 0, "recall": None}


def test_the_best_is_by_accuracy_then_by_loss():
    progress = Progress(step=4, position=32)
    outcomes = [(0.8, 1.0), (0.8, 0.9), (0.8, 0.95), (0.7, 0.1), (0.9, 2.0)]
    assert [progress.better(s, {"accuracy": a, "loss": b}) for s, (a, b) in enumerate(outcomes)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert progress.best == {"step": 4, "loss": 2.0, "accuracy": 0.9}
    assert Progress.from_dict(progress.to_dict(), Clock.steady(1, 8)) == progress
