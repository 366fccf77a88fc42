"""--balance: exact draws per class, whole passes over each, and a position's example depends on the position alone."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.data.balance import draws_per_class, effective_numbers
from convoy.data.config import DataConfig
from convoy.data.pipeline import BatchSharding, training_stream
from convoy.data.sampler import Sampler
from convoy.data.sources.in_memory import InMemory
from convoy.data.specs import BalanceSpec

pytestmark = pytest.mark.slow

ALL = ["oversample", "sqrt", "effective:0.99", "undersample"]
LONG = np.array([97, 41, 0, 23, 8, 1])  # a class without examples, one with a single one
EVEN = np.full(10, 12)
TWO = np.array([1, 250])
THOUSAND = 1 + np.arange(1000) % 7
SETS = {"long": LONG, "even": EVEN, "two": TWO, "thousand": THOUSAND}


def labels_of(counts: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)


def sampler(labels: np.ndarray, balance: str, seed: int) -> Sampler:
    return Sampler(labels, BalanceSpec.parse(balance), seed)


def draws_of(counts: np.ndarray, balance: str) -> np.ndarray:
    return draws_per_class(counts, BalanceSpec.parse(balance))


def sampled(order: Sampler, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """What the positions from start to stop show, and how often it was shown before."""
    sample = order.sample(tf.range(start, stop, dtype=tf.int64))
    return sample.indices.numpy(), sample.times_seen.numpy()


def exact(counts: np.ndarray, balance: str) -> list[Fraction]:
    """The quota of each class, in exact arithmetic."""
    kind, _, beta = balance.partition(":")
    ratio = Fraction(beta or 0)
    frequency = {
        "oversample": lambda n: Fraction(1),
        "sqrt": lambda n: Fraction(np.sqrt(n)),
        "effective": lambda n: n * (1 - ratio) / (1 - ratio**n),
    }[kind]
    frequencies = [frequency(int(n)) if n else Fraction(0) for n in counts]
    whole = sum(frequencies)
    return [int(counts.sum()) * one / whole for one in frequencies]


@pytest.mark.parametrize("counts", SETS.values(), ids=SETS)
@pytest.mark.parametrize("balance", ["oversample", "sqrt", "effective:0.99", "effective:0.5"])
def test_an_epoch_is_as_long_as_ever_and_shared_to_within_one_draw(counts, balance):
    draws = draws_of(counts, balance)
    assert draws.sum() == counts.sum()
    assert ((draws > 0) == (counts > 0)).all()
    quotas = exact(counts, balance)
    rounded_up = [quota % 1 for n, quota in zip(draws, quotas, strict=True) if n > quota]
    rounded_down = [quota % 1 for n, quota in zip(draws, quotas, strict=True) if n < quota]
    assert all(abs(n - quota) < 1 for n, quota in zip(draws, quotas, strict=True))
    # Square roots are rounded before they come here.
    assert min(rounded_up, default=1) >= max(rounded_down, default=0) - Fraction(1, 10**9)


def test_draws_by_hand():
    counts = np.array([6, 3, 0, 1])
    assert draws_of(counts, "none").tolist() == [6, 3, 0, 1]
    assert draws_of(counts, "oversample").tolist() == [4, 3, 0, 3]
    assert draws_of(counts, "undersample").tolist() == [1, 1, 0, 1]
    # 6 : 3 : 1 by roots is 4.73 : 3.34 : 1.93.
    assert draws_of(counts, "sqrt").tolist() == [5, 3, 0, 2]


def test_effective_numbers_are_the_papers():
    counts = np.array([0, 1, 2, 10, 5000])
    expected = [sum(0.999**k for k in range(n)) for n in counts]
    np.testing.assert_allclose(effective_numbers(counts, 0.999), expected, rtol=1e-12)
    np.testing.assert_allclose(effective_numbers(counts, 1e-9), [0, 1, 1, 1, 1], rtol=1e-8)
    np.testing.assert_allclose(effective_numbers(counts, 1 - 1e-9), counts, rtol=1e-5)


@pytest.mark.parametrize("counts", SETS.values(), ids=SETS)
@pytest.mark.parametrize("balance", ALL)
def test_every_epoch_has_exactly_its_draws_and_every_pass_every_example_once(counts, balance):
    labels, draws = labels_of(counts), draws_of(counts, balance)
    order, epochs = sampler(labels, balance, 3), 7
    assert order.epoch == draws.sum()
    indices, shown = sampled(order, 0, epochs * order.epoch)
    for epoch in indices.reshape(epochs, -1):
        assert (np.bincount(labels[epoch], minlength=len(counts)) == draws).all()
    # (example, for how many times) comes once each: all whole passes, and a part of the last.
    assert len(set(zip(indices.tolist(), shown.tolist(), strict=True))) == len(indices)
    for label in np.flatnonzero(counts):
        sizes = np.bincount(shown[labels[indices] == label])
        whole, rest = divmod(epochs * draws[label], counts[label])
        assert sizes.tolist() == [counts[label]] * whole + [rest] * bool(rest)
    times = np.bincount(indices, minlength=len(labels))
    for label in np.flatnonzero(counts):
        assert np.ptp(times[labels == label]) <= 1


def test_part_of_an_epoch_has_about_its_share_of_every_class():
    labels = labels_of(np.array([5000, 400, 60]))
    for balance in ALL:
        order = sampler(labels, balance, 0)
        share = draws_of(np.bincount(labels), balance) / order.epoch
        part = min(1000, order.epoch // 2)
        for start in range(0, 20 * part, part):
            found = np.bincount(labels[sampled(order, start, start + part)[0]], minlength=3)
            # Drawn without replacement, so less than binomial; five standard deviations of it.
            assert (np.abs(found - part * share) < 5 * np.sqrt(part * share * (1 - share)) + 1).all(), (balance, start)


def test_passes_classes_epochs_and_seeds_have_orders_of_their_own():
    counts = np.array([300, 300, 300])
    order = sampler(np.sort(labels_of(counts)), "oversample", 0)

    def places(order: Sampler) -> np.ndarray:
        """[class, pass, rank] -> example of the class, rank by rank."""
        shape, grid = (3, 40, 300), np.indices((3, 40, 300)).reshape(3, -1)
        of = tf.fill([grid.shape[1]], tf.constant(300, tf.int64))
        return (
            order._shuffled(tf.constant(grid[2]), of, tf.constant(grid[1]), tf.constant(grid[0])).numpy().reshape(shape)
        )

    found = places(order)
    assert (np.sort(found, axis=-1) == np.arange(300)).all()
    rows = found.reshape(120, 300)
    agree = (rows[:, None] == rows[None]).sum(-1)[np.triu_indices(120, 1)]
    # Two random permutations agree in 1 place on average, with variance 1, whatever their size.
    assert agree.mean() == pytest.approx(1, abs=0.1)
    assert agree.max() < 15
    other = places(sampler(np.sort(labels_of(counts)), "oversample", 1))
    assert (found == other).mean() == pytest.approx(1 / 300, rel=0.2)
    # Which examples the first 30 draws of a pass show: 30 in 300 for each, over 40 passes and 3 classes 12 times.
    early = np.stack([np.bincount(one[:, :30].ravel(), minlength=300) for one in found])
    assert early.sum(0).max() <= 30
    assert early.sum(0).min() >= 1


@pytest.mark.parametrize("balance", ["none", *ALL])
def test_a_stream_does_not_depend_on_batches_and_continues_anywhere(balance):
    labels = labels_of(LONG)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    examples, data = InMemory(images, labels), DataConfig(augment="altflip", balance=balance)

    def stream(sharding: BatchSharding, steps: int, first_position: int = 0) -> tuple[np.ndarray, np.ndarray]:
        batches = list(training_stream(examples, sharding, data, 4, first_position).take(steps).as_numpy_iterator())
        return tuple(np.concatenate([batch[k] for batch in batches]) for k in (0, 1))

    indices, _ = sampled(sampler(labels, balance, 4), 0, 480)
    fine = stream(BatchSharding(6), 80)
    assert (fine[0][:, 0, 0, 0] == indices).all()
    assert (fine[1][:, 0] == labels[indices]).all()
    for other in (stream(BatchSharding(96), 5), stream(BatchSharding(48, microbatches=2), 10)):
        assert all((a == b).all() for a, b in zip(fine, other, strict=True))
    later = stream(BatchSharding(48), 4, first_position=6 * 48)
    assert all((a[288:] == b).all() for a, b in zip(fine, later, strict=True))


def test_no_balance_keeps_the_order_of_before():
    indices, shown = sampled(sampler(labels_of(LONG), "none", 7), 335, 345)
    # Written down before there was any other: another order would be another run.
    assert indices.tolist() == [109, 162, 137, 155, 9, 95, 63, 40, 103, 5]
    assert shown.tolist() == [1] * 5 + [2] * 5


@pytest.mark.parametrize("balance", ALL)
def test_epochs_far_beyond_32_bits(balance):
    labels = labels_of(LONG)
    order = sampler(labels, balance, 7)
    start = 10 * 2**32 // order.epoch * order.epoch
    found, shown = sampled(order, start, start + order.epoch)
    assert (np.bincount(labels[found], minlength=len(LONG)) == draws_of(LONG, balance)).all()
    assert len(set(zip(found.tolist(), shown.tolist(), strict=True))) == order.epoch


@pytest.mark.parametrize("balance", ["over", "", "effective", "effective:1", "effective:0", "effective:x", "sqrt:2"])
def test_an_impossible_balance_is_a_sentence(balance):
    with pytest.raises(exits.CannotRun, match=f"--balance={balance} is not possible; give none, .*effective:0.999"):
        DataConfig(balance=balance)
