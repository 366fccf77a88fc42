"""Numbers that fit in shape and cannot be what their name says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from convoy import exits
from convoy.trainer.models.pretrained.owners import Owner


def check(values: Mapping[str, np.ndarray], owners: Sequence[Owner], place: str) -> None:
    """CannotRun, a sentence, for numbers that are not finite, variances below zero, and scales that are not mostly positive.

    Args:
      values: path of a variable -> the numbers that it would get.
      owners: of the network.
      place: where they are from.
    """
    for owner in owners:
        for variable in owner.variables:
            tensor = values.get(variable.path)
            if tensor is None:
                continue
            if not np.isfinite(np.asarray(tensor, np.float64).sum()):
                raise _refused(place, variable.path, "are not finite")
            if not isinstance(owner.layer, keras.layers.BatchNormalization):
                continue
            if variable.name == "moving_variance" and tensor.min() < 0:
                raise _refused(place, variable.path, "are below zero, and are called a variance")
            if variable.name == "moving_variance" and not tensor.any():
                raise _refused(place, variable.path, "are all zero, and are called a variance")
            if variable.name == "gamma" and tensor.any() and (tensor < 0).mean() > 0.5:
                raise _refused(place, variable.path, "are mostly below zero, as no scale is that a network learned")


def _refused(place: str, path: str, what: str) -> exits.CannotRun:
    return exits.CannotRun(
        f"the numbers that {place} has for {path} {what}; the file was damaged, or tensors in it have each other's names."
    )
