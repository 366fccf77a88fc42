"""Layers of a file of Keras -> layers of a network, by name.

Keras' own load_weights takes the layers of a file in order, whatever they are called: one more layer in the middle, and each
after it gets the weights of its neighbour. Names decide here. Only those that Keras made up (conv2d_17) are taken in order,
among those of their kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.outside import printable
from convoy.trainer.models.pretrained.hdf5 import Layer
from convoy.trainer.models.pretrained.owners import Matched, Owner


def matched(owners: Sequence[Owner], layers: Sequence[Layer], place: str, name: str) -> Matched:
    """What a file has for each variable of a network.

    Args:
      owners: of the network.
      layers: of the file.
      place: where it lies.
      name: --model.

    Raises:
      exits.CannotRun: two layers of the file may be meant, or one has another number of variables.
    """
    pairs = [(owner, _named(owner, layers, place)) for owner in owners if not owner.is_named_by_keras]
    pairs += _in_order([owner for owner in owners if owner.is_named_by_keras], layers, place, name)
    values: dict[str, np.ndarray] = {}
    taken = set[int]()
    for owner, layer in pairs:
        if layer is None:
            continue
        if len(layer.tensors) != len(owner.variables):
            raise exits.CannotRun(
                f"{place} has {counted(len(layer.tensors), 'tensor')} for the layer {'/'.join(owner.names)} of"
                f" --model={name}, which has {len(owner.variables)}; it is of another network."
            )
        taken.add(id(layer))
        values |= {variable.path: tensor for variable, tensor in zip(owner.variables, layer.tensors, strict=True)}
    return Matched(values, ["/".join(layer.names) for layer in layers if id(layer) not in taken])


def _named(owner: Owner, layers: Sequence[Layer], place: str) -> Layer | None:
    depth = len(owner.names)
    meant = [layer for layer in layers if layer.names[-depth:] == owner.names]
    if len(meant) > 1:
        names = " and ".join(printable("/".join(layer.names))[:100] for layer in meant[:2])
        raise exits.CannotRun(
            f"{place} has two layers that may be {'/'.join(owner.names)}: {names}; give a file of one network."
        )
    return meant[0] if meant else None


def _in_order(
    owners: Sequence[Owner], layers: Sequence[Layer], place: str, name: str
) -> list[tuple[Owner, Layer | None]]:
    """Layers with names that Keras made up, by their rank among those of their kind."""
    pairs: list[tuple[Owner, Layer | None]] = []
    kinds = list(dict.fromkeys(re.sub(r"_\d+$", "", owner.names[-1]) for owner in owners))
    for kind in kinds:
        ours = sorted(
            (owner for owner in owners if _number(owner.names[-1], kind) >= 0), key=lambda o: _number(o.names[-1], kind)
        )
        theirs = sorted(
            (layer for layer in layers if _number(layer.names[-1], kind) >= 0),
            key=lambda layer: _number(layer.names[-1], kind),
        )
        if theirs and len(ours) != len(theirs):
            raise exits.CannotRun(
                f"{place} has {counted(len(theirs), 'layer')} {kind} without a name of its own, and --model={name}"
                f" {len(ours)}, so that none can be told from its neighbour; it is of another network."
            )
        pairs += zip(ours, theirs, strict=False)
    return pairs


def _number(name: str, kind: str) -> int:
    """The number that Keras gave to a layer of a kind: 0 without one, -1 for another name."""
    match = re.fullmatch(rf"{kind}(?:_([0-9]{{1,9}}))?", name)
    return -1 if match is None else int(match[1] or 0)
