"""--balance: how often an epoch draws each class."""

from __future__ import annotations

import numpy as np

from convoy.data.arrays import ClassCounts
from convoy.data.specs import BALANCES, BalanceSpec


def draws_per_class(counts: ClassCounts, balance: BalanceSpec) -> ClassCounts:
    """How often an epoch shows each class: int64 [classes].

    undersample draws as many of each class as the smallest has. All others draw as many examples as there are, so that an
    epoch costs the same, shared among the classes by their frequencies to within one draw (largest remainder).

    Args:
      counts: int64 [classes], the examples of each. A class without any is never drawn, one with some is.
      balance: --balance.
    """
    return BALANCES.load(balance.name)(counts, balance.beta)


def unbalanced(counts: ClassCounts, beta: float) -> ClassCounts:
    return counts


def oversampled(counts: ClassCounts, beta: float) -> ClassCounts:
    return _apportioned(int(counts.sum()), (counts > 0).astype(float))


def square_root(counts: ClassCounts, beta: float) -> ClassCounts:
    return _apportioned(int(counts.sum()), np.sqrt(counts))


def undersampled(counts: ClassCounts, beta: float) -> ClassCounts:
    present = counts > 0
    return np.where(present, counts[present].min(), 0)


def effective(counts: ClassCounts, beta: float) -> ClassCounts:
    numbers, present = effective_numbers(counts, beta), counts > 0
    frequencies = np.divide(counts, numbers, out=np.zeros(len(counts)), where=present)
    return _apportioned(int(counts.sum()), frequencies)


def effective_numbers(counts: ClassCounts, beta: float) -> np.ndarray:
    """(1 - beta**n) / (1 - beta) of counts n: float64 [classes] in [1, n], or 0 for none (Cui et al. 2019, section 3.2).

    It is 1 for beta = 0, and nears n as beta nears 1.
    """
    return -np.expm1(counts * np.log(beta)) / (1 - beta)


def _apportioned(total: int, frequencies: np.ndarray) -> ClassCounts:
    """`total` in whole numbers by `frequencies`: each quota rounded down, then one more for the largest remainders."""
    quotas = total * frequencies / frequencies.sum()
    shares = np.floor(quotas).astype(np.int64)
    # Stable: of equal remainders the class that comes first has it, on every machine.
    shares[np.argsort(shares - quotas, kind="stable")[: total - shares.sum()]] += 1
    return shares
