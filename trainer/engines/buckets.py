"""Gradients in parts that travel between devices one by one, each while those of earlier layers are still computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_LARGE = 12  # a tensor that holds this part of all numbers has a bucket of its own: nothing is copied into one


def buckets(sizes: Sequence[int], count: int, generation: int) -> list[list[int]]:
    """At most `count` groups of tensors, by index.

    The last tensors come first: a backward pass begins with them, so their gradients are there first (Li et al. 2020, "PyTorch
    Distributed", section 3.2.3).

    Args:
      sizes: numbers in each tensor, in the order in which the forward pass uses them.
      count: at least 1.
      generation: of --kernels. From the fourth on large tensors are by themselves, and each group of the others has half of
        what is left of them, so that little travels after the backward pass has ended; before, all are of about the same size.
    """
    backwards = range(len(sizes))[::-1]
    if generation < 4 or count == 1:
        return _grouped(sizes, backwards, count, lambda rest: sum(sizes) / count)
    large = sorted((index for index in backwards if sizes[index] * _LARGE >= sum(sizes)), key=lambda i: -sizes[i])
    large = large[: count // 2]
    others = [index for index in backwards if index not in large]
    groups = _grouped(sizes, others, count - len(large), lambda rest: rest / 2)
    return sorted([[index] for index in large] + groups, key=min, reverse=True)


def _grouped(sizes: Sequence[int], order: Sequence[int], count: int, enough: Callable[[int], float]) -> list[list[int]]:
    """Groups of tensors in an order, each closed once it has `enough` of the numbers that no group before it has."""
    groups: list[list[int]] = []
    rest, held = sum(sizes[index] for index in order), 0
    for index in order:
        if not groups or (held >= enough(rest) and len(groups) < count):
            rest -= held
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += sizes[index]
    return groups
