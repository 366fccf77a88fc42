"""Gradients in parts that travel between devices one by one, each while those of earlier layers are still computed."""

from __future__ import annotations

from collections.abc import Sequence


def buckets(sizes: Sequence[int], count: int) -> list[list[int]]:
    """At most `count` groups of tensors of about the same size, by index, each without a gap.

    The last tensors come first: a backward pass begins with them, so their gradients are there first (Li et al. 2020, "PyTorch
    Distributed", section 3.2.3).

    Args:
      sizes: numbers in each tensor, in the order in which the forward pass uses them.
      count: at least 1.
    """
    groups: list[list[int]] = [[]]
    total, held = sum(sizes), 0
    for index in reversed(range(len(sizes))):
        if held >= total / count and groups[-1]:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += sizes[index]
    return groups
