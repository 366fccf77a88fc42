"""Reads a source: its tensors under the names of a network's variables, and what is known of its classes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from convoy import exits
from convoy.options import shortened
from convoy.trainer.models.pretrained import (
    archive,
    downloads,
    hdf5,
    hub,
    keras_names,
    other_run,
    safe_tensors,
    torch_names,
)
from convoy.trainer.models.pretrained.hdf5 import Layer
from convoy.trainer.models.pretrained.head import as_dense
from convoy.trainer.models.pretrained.owners import Matched, Owner
from convoy.trainer.models.pretrained.sources import Source


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a source has for a network.

    Attributes:
      values: path of a variable -> its numbers; those of the head are not among them.
      head: the source's kernel and bias of the logits, [features, its classes] and [its classes]; empty if it has none.
      unused: the source's names that nothing of the network takes.
      digest: sha256 of what was read.
    """

    values: dict[str, np.ndarray]
    head: list[np.ndarray]
    unused: list[str]
    digest: str


def read(
    source: Source, owners: Sequence[Owner], head: Owner | None, name: str, image_shape: tuple[int, int, int]
) -> Weights:
    """Reads a source for a network.

    Args:
      source: what --pretrained names.
      owners: of the network, the head's too.
      head: of the network.
      name: --model.
      image_shape: (height, width, channels) that it is built for.

    Raises:
      exits.CannotRun: nothing can be read there, or it is of another network.
      exits.BadData: a file is damaged, or none that its name says.
    """
    if source.kind == "run":
        matched, digest = other_run.matched(source, owners)
        return _without_head(matched, head, digest)
    if source.kind == "imagenet":
        data, place = downloads.weights(name)
        return _of_keras(hdf5.layers(data, place), owners, head, place, name, _digest(data))
    data = _file(source, source.files[0])
    if source.kind == "timm" and name.startswith("hub:"):
        layers, unused = hub.layers(source, safe_tensors.tensors(data, source.place), name, image_shape)
        return dataclasses.replace(_of_keras(layers, owners, head, source.place, name, _digest(data)), unused=unused)
    if source.kind in ("timm", "safetensors"):
        classifier = source.config.get("pretrained_cfg", {}).get("classifier") or "classifier"
        tensors = safe_tensors.tensors(data, source.place)
        return _without_head(torch_names.matched(owners, tensors, classifier), head, _digest(data))
    stored = archive.weights(data, source.place) if source.kind == "keras" else data
    layers = hdf5.layers(stored, source.place)
    for optional in source.files[1:]:  # of a preset: the head
        with contextlib.suppress(FileNotFoundError):
            more = source.read(optional)
            layers += hdf5.layers(more, source.place)
            data += more
    return _of_keras(layers, owners, head, source.place, name, _digest(data))


def _of_keras(
    layers: list[Layer], owners: Sequence[Owner], head: Owner | None, place: str, name: str, digest: str
) -> Weights:
    backbone = [owner for owner in owners if owner is not head]
    own = [layer for layer in layers if head and layer.names[-1] == head.names[-1]]
    rest = [layer for layer in layers if not own or layer is not own[-1]]
    matched = keras_names.matched(backbone, rest, place, name)
    if head is None:
        return Weights(matched.values, [], matched.unused, digest)
    # A head of another name: the last layer that the network has no use for and that takes the same features.
    features = head.variables[0].shape[0]
    for layer in own or [layer for layer in reversed(layers) if "/".join(layer.names) in matched.unused]:
        if dense := as_dense(layer.tensors, features):
            unused = [name for name in matched.unused if name != "/".join(layer.names)]
            return Weights(matched.values, dense, unused, digest)
    return Weights(matched.values, [], matched.unused, digest)


def _without_head(matched: Matched, head: Owner | None, digest: str) -> Weights:
    """What was matched, with the head's numbers apart."""
    values = dict(matched.values)
    tensors = [values.pop(variable.path) for variable in (head.variables if head else ()) if variable.path in values]
    dense = as_dense(tensors, head.variables[0].shape[0]) if head else None
    return Weights(values, dense or [], matched.unused, digest)


def _file(source: Source, name: str) -> bytes:
    try:
        return source.read(name)
    except FileNotFoundError:
        raise exits.CannotRun(
            f"--pretrained={shortened(source.spec)}: {source.root} has no {name}; put it there."
        ) from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
