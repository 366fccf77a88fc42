"""MixUp and CutMix against NumPy, and every recipe's batches against those of other sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from convoy.data.augment.mix import beta, mix
from convoy.data.augment.recipe import Recipe
from convoy.data.config import DataConfig
from convoy.data.order import PositionRanges
from convoy.data.pipeline import Batch, BatchSharding, training_stream
from convoy.data.sources.in_memory import InMemory

pytestmark = pytest.mark.slow

N = 400
RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 256, (N, 9, 14, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 7, N, dtype=np.int32)
COUNTS = (RNG.random(N) < 0.8).astype(np.float32)


def mixed(augment: str, counts: np.ndarray = COUNTS, seed: int = 3) -> list[np.ndarray]:
    positions = PositionRanges([(tf.constant(50, tf.int64), N)], seed)
    made = mix(tf.constant(IMAGES), tf.constant(LABELS), tf.constant(counts), positions, Recipe.parse(augment))
    return [one.numpy() for one in made]


def partners(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(N // 2, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)


def assert_labels_and_shares(labels: np.ndarray, shares: np.ndarray, kept: np.ndarray) -> None:
    assert np.array_equal(labels, np.stack([LABELS, partners(LABELS)], axis=1))
    expected = np.stack([kept * COUNTS, (1 - kept) * partners(COUNTS)], axis=1)
    assert np.abs(shares - expected).max() < 1e-6
    both = (COUNTS * partners(COUNTS)) == 1
    assert np.abs(shares[both].sum(axis=1) - 1).max() < 1e-6
    assert np.array_equal(shares[COUNTS == 0][:, 0], np.zeros((COUNTS == 0).sum()))


def test_nothing_mixed():
    images, labels, shares = mixed("flip")
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(labels, np.stack([LABELS, LABELS], axis=1))
    assert np.array_equal(shares, np.stack([COUNTS, 0 * COUNTS], axis=1))


def test_mixup_blends_both_by_one_share():
    _, _, whole = mixed("mixup:0.4", np.ones_like(COUNTS))
    kept = whole[:, 0].astype(np.float64)
    assert np.array_equal(kept[::2], kept[1::2])
    assert len(set(kept)) > N // 2 - 10
    images, labels, shares = mixed("mixup:0.4")
    blended = kept[:, None, None, None] * IMAGES + (1 - kept[:, None, None, None]) * partners(IMAGES)
    assert np.abs(images - blended).max() <= 0.5
    assert_labels_and_shares(labels, shares, kept)


def test_cutmix_swaps_a_box_and_counts_its_pixels():
    images, labels, shares = mixed("cutmix:1")
    kept = np.empty(N)
    full = []
    for i in range(N):
        theirs = (images[i] == partners(IMAGES)[i]).all(axis=-1)
        ours = (images[i] == IMAGES[i]).all(axis=-1)
        assert (theirs | ours).all()
        rows, columns = np.flatnonzero(theirs.any(axis=1)), np.flatnonzero(theirs.any(axis=0))
        if len(rows):
            assert theirs[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one box
        assert theirs.sum() == len(rows) * len(columns)
        kept[i] = 1 - theirs.sum() / theirs.size
        full.append(theirs)
    assert all(np.array_equal(one, other) for one, other in zip(full[::2], full[1::2], strict=True))
    assert_labels_and_shares(labels, shares, kept)
    # Every pixel is swapped about as often as its place in the image makes likely; none is left out.
    often = np.mean(full, axis=0)
    assert often.min() > 0.1
    assert often.max() < 0.7
    assert np.abs(often - often[::-1, ::-1]).max() < 0.16


def test_with_both_each_pair_draws_one():
    images, labels, shares = mixed("mixup:8+cutmix:1", np.ones_like(COUNTS))
    whole = (images == IMAGES) | (images == partners(IMAGES))
    cut = whole.all(axis=(1, 2, 3))
    assert np.array_equal(cut[::2], cut[1::2])
    assert abs(cut[::2].mean() - 0.5) < 5 * math.sqrt(0.25 / (N / 2))
    alone = mixed("mixup:8", np.ones_like(COUNTS)), mixed("cutmix:1", np.ones_like(COUNTS))
    for ours, blended, swapped in zip((images, labels, shares), *alone, strict=True):
        assert np.array_equal(ours, np.where(cut.reshape(-1, *[1] * (ours.ndim - 1)), swapped, blended))


def test_black_and_white_stay_so():
    for level in (0, 255):
        flat = tf.fill([2, 4, 4, 1], tf.constant(level, tf.uint8))
        positions = PositionRanges([(tf.constant(0, tf.int64), 2)], 3)
        for augment in ("mixup:1", "cutmix:1"):
            made, *_ = mix(flat, tf.constant([1, 2]), tf.ones(2), positions, Recipe.parse(augment))
            assert np.array_equal(made, flat)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.4, 1.0, 8.0, 100.0])
def test_shares_follow_a_beta_distribution(alpha):
    uniform = np.linspace(0, 1, 20001, endpoint=False, dtype=np.float32)
    ours = beta(alpha, tf.constant(uniform)).numpy().astype(np.float64)
    assert (np.diff(ours) >= 0).all()
    assert ours[0] >= 0
    assert ours[-1] <= 1
    # As far from the exact quantile as 1/1024 of the probability is, and half of a 2**-14.
    low, high = (stats.beta.ppf(np.clip(uniform + step, 0, 1), alpha, alpha) for step in (-1 / 1024, 1 / 1024))
    assert (ours >= low - 2**-15 - 1e-7).all()
    assert (ours <= high + 2**-15 + 1e-7).all()
    inside = (uniform > 0.05) & (uniform < 0.95)
    assert np.abs(ours - stats.beta.ppf(uniform, alpha, alpha))[inside].max() < 2e-4


# What follows is about whole streams: positions, not batches, decide about pixels, labels and shares.

EXAMPLES = InMemory(RNG.integers(0, 256, (37, 12, 10, 3), dtype=np.uint8), np.arange(37) % 5)
ITEMS = ["crop", "flip", "altflip", "rotate:20", "shift:0.2", "shear:10", "zoom:0.2", "color:0.5", "randaugment:2:12",
         "trivial", "erase:0.5", "mixup:0.4", "cutmix:1"]  # fmt: skip
LENGTH = 42


def stream(augment: str, sharding: BatchSharding, first_position: int = 0) -> Batch:
    """The positions from the first one to LENGTH, or some more, in order, whoever reads them."""
    batches = training_stream(EXAMPLES, sharding, DataConfig(augment=augment), 5, first_position)
    steps = -(-(LENGTH - first_position) // sharding.batch_size)
    arrays = [
        np.concatenate(batch)
        for batch in zip(*batches.take(steps * sharding.local_replicas).as_numpy_iterator(), strict=True)
    ]
    order = np.argsort(arrays[3][:, 0], kind="stable")
    return Batch(*(array[order] for array in arrays))


def assert_same(ours: Batch, theirs: Batch, first: int = 0) -> None:
    for one, other in zip(ours, theirs, strict=True):
        shared = min(len(one), len(other) - first)
        assert shared > 0
        assert np.array_equal(one[:shared], other[first : first + shared])


@pytest.fixture(scope="module")
def references() -> dict[str, Batch]:
    return {}


@pytest.mark.parametrize("item", ITEMS)
def test_a_position_shows_the_same_in_any_batch(item, references):
    whole = references.setdefault(item, stream(item, BatchSharding(LENGTH)))
    assert_same(stream(item, BatchSharding(7)), whole)
    for batch_size, first in ((7, 21), (6, 11), (6, 12)):  # 11: the partners in a mix belong to different steps
        assert_same(stream(item, BatchSharding(batch_size), first), whole, first)
    assert np.abs(whole.label_weights.sum(axis=1) - 1).max() < 1e-6
    assert len({image.tobytes() for image in whole.images}) > 35


@st.composite
def recipes(draw: st.DrawFn) -> str:
    apart = [("flip", "altflip"), ("randaugment:2:12", "trivial")]
    items = draw(st.lists(st.sampled_from(ITEMS), min_size=2, max_size=5, unique=True))
    return "+".join(item for item in items if not any(item == b and a in items for a, b in apart))


@st.composite
def shardings(draw: st.DrawFn) -> BatchSharding:
    replicas = draw(st.sampled_from([1, 2, 3]))
    per_replica = draw(st.integers(1, 9))
    microbatches = draw(st.integers(1, min(3, per_replica)))
    return BatchSharding(per_replica * replicas, microbatches, replicas, 0, replicas)


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(augment=recipes(), sharding=shardings(), first=st.integers(0, 9))
def test_recipes_show_the_same_from_any_position_however_batches_are_shared(augment, sharding, first):
    assert_same(stream(augment, sharding, first), stream(augment, BatchSharding(LENGTH)), first)
