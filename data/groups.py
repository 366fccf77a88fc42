"""Groups of examples that stand on one side of every split: the photographs of one patient, or of one camera."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from convoy import exits
from convoy.data.expressions import search
from convoy.data.images.hashing import content_hash
from convoy.outside import printable


def of_names(names: Sequence[str], pattern: str) -> list[str]:
    """The group of each file: what the first group of --group matches in its name.

    Raises:
      exits.CannotRun: RE2 does not know the pattern.
      exits.BadData: a name has no group.
    """
    _, groups = search("group", pattern, names)
    if "" in groups:
        name = printable(names[groups.index("")])
        raise exits.BadData(f"--group={pattern} finds no group in {name}; every file needs one, widen the expression.")
    return groups


def check_sides(groups: Mapping[str, Sequence[str]], names: Mapping[str, Sequence[str]]) -> None:
    """BadData, by its name, for a group that stands in two splits.

    Args:
      groups: split -> the group of each file.
      names: split -> the files, for the sentence.
    """
    sides: dict[str, str] = {}
    for split, members in groups.items():
        for group in dict.fromkeys(members):
            if (other := sides.setdefault(group, split)) != split:
                first, second = (printable(names[side][groups[side].index(group)]) for side in (other, split))
                raise exits.BadData(
                    f"the group {printable(group)!r} stands on two sides: {first} is of {other}, and {second} of {split};"
                    " bring all of a group into one split."
                )


def numbered(groups: Sequence[str]) -> np.ndarray:
    """A number in [0, 1) for each group, of its name alone: float64 [N]."""
    numbers: dict[str, float] = {}
    for group in groups:
        if group not in numbers:
            numbers[group] = content_hash(group.encode("utf-8", "surrogateescape"))
    return np.array([numbers[group] for group in groups], np.float64)


def held_out(groups: np.ndarray, labels: np.ndarray, fraction: float, purpose: str) -> np.ndarray:
    """Whether each example is of the part that is held out, bool [N]: whole groups, a function of these arguments alone.

    In the order of a hash of (purpose, group), groups are held out as long as that brings their classes and the sum nearer to
    `fraction`; then those that change the classes least, as long as the sum comes nearer. At least one group is held out, and
    every class keeps an example to train on, where that is possible.

    Args:
      groups: a number each, float64 [N] (see `numbered`).
      labels: int32 [N].
      fraction: of the examples, between 0 and 1.
      purpose: what the split is for: one of the same groups for something else is independent.
    """
    numbers, members = np.unique(groups, return_inverse=True)
    totals = np.bincount(labels)
    rows, counts = np.unique(members * len(totals) + labels, return_counts=True)
    parts: list[list[tuple[int, int]]] = [[] for _ in numbers]  # (class, examples) of each group
    for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
        group, label = divmod(row, len(totals))
        parts[group].append((label, count))
    sizes = np.bincount(members).tolist()
    training, missing = (
        totals.tolist(),
        (fraction * totals).tolist(),
    )  # by class; of the latter what is to be held out yet
    total, chosen = fraction * len(labels), np.zeros(len(numbers), bool)

    def cost(group: int) -> float:
        """How much further the classes are from their shares with this group held out; less than 0: nearer."""
        return sum(count * (count - 2 * missing[label]) / totals[label] for label, count in parts[group])

    def possible(group: int) -> bool:
        return all(count < training[label] for label, count in parts[group])

    def hold_out(group: int) -> None:
        nonlocal total
        chosen[group], total = True, total - sizes[group]
        for label, count in parts[group]:
            training[label] -= count
            missing[label] -= count

    hashes = [content_hash(f"{purpose}/group/{number!r}".encode()) for number in numbers.tolist()]
    order = np.argsort(hashes, kind="stable").tolist()
    for group in order:
        if sizes[group] < 2 * total and cost(group) < 0 and possible(group):
            hold_out(group)
    waiting = [(cost(group), rank, group) for rank, group in enumerate(order) if not chosen[group]]
    heapq.heapify(waiting)
    while waiting and total > 0:
        before, rank, group = heapq.heappop(waiting)
        if (now := cost(group)) > before:  # others of its classes were held out since
            heapq.heappush(waiting, (now, rank, group))
        elif sizes[group] < 2 * total and possible(group):
            hold_out(group)
    if not chosen.any() and (candidates := [group for group in order if possible(group)]):
        hold_out(min(candidates, key=sizes.__getitem__))
    return chosen[members]
