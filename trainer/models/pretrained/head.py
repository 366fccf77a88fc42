"""The head of a network for other classes: those that the source knows keep their weights, the others begin anew."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

_WNID = re.compile(r"(n\d{8})(?:[_ -].*)?")  # of WordNet, alone or before a name, as folders of ImageNet are called


def rows(class_names: Sequence[str], known: Sequence[Sequence[str]]) -> dict[int, int]:
    """Class of the data set -> the class of the source with the same name.

    Case, and the kind of space between words, do not count. A name that two classes of the source share, such as ImageNet's
    crane, is nobody's.

    Args:
      class_names: of the data set.
      known: the names of each class of the source.
    """
    owners: dict[str, set[int]] = {}
    for index, names in enumerate(known):
        for name in names:
            owners.setdefault(_plain(name), set()).add(index)
    kept: dict[int, int] = {}
    for label, name in enumerate(class_names):
        wnid = _WNID.fullmatch(name)
        for candidate in (_plain(name), *([wnid[1]] if wnid else [])):
            if len(owners.get(candidate, ())) == 1:
                kept[label] = next(iter(owners[candidate]))
                break
    return kept


def merged(first: Sequence[np.ndarray], stored: Sequence[np.ndarray], kept: dict[int, int]) -> list[np.ndarray]:
    """Kernel [n, classes] and bias [classes] of the new head.

    Args:
      first: its first weights.
      stored: the source's, [n, its classes] and [its classes]; without the bias where it has none.
      kept: class of the data set -> class of the source.
    """
    new = [np.array(tensor) for tensor in first]
    ours, theirs = list(kept), list(kept.values())
    for tensor, old in zip(new, stored, strict=False):
        tensor[..., ours] = old[..., theirs]
    return new


def as_dense(tensors: Sequence[np.ndarray], features: int) -> list[np.ndarray] | None:
    """A head's kernel [features, classes] and bias [classes]; None for tensors that are no such.

    Some networks end in a convolution of 1x1, [1, 1, features, classes].
    """
    if not 1 <= len(tensors) <= 2:
        return None
    kernel = tensors[0]
    kernel = kernel.reshape(kernel.shape[2:]) if kernel.ndim == 4 and kernel.shape[:2] == (1, 1) else kernel
    if kernel.ndim != 2 or kernel.shape[0] != features:
        return None
    if len(tensors) == 2 and tensors[1].shape != kernel.shape[1:]:
        return None
    return [kernel, *tensors[1:]]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()
