"""Gives a network the weights that --pretrained names, and says what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.options import shortened
from convoy.trainer.models.pretrained import head as heads
from convoy.trainer.models.pretrained import owners as owning
from convoy.trainer.models.pretrained import probe, sources, values, weights
from convoy.trainer.models.pretrained.description import Description, describe

_LISTED = 20  # names of what is not used, in a record


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was loaded, left and newly made.

    Attributes:
      notes: for a person.
      record: for result.json.
    """

    notes: list[str]
    record: dict[str, Any]


def load(model: keras.Model, name: str, spec: str, class_names: Sequence[str]) -> Loaded:
    """Replaces a network's first weights by those of a source; the head's for classes that the source does not know stay.

    Args:
      model: built, with its first weights.
      name: --model.
      spec: --pretrained.
      class_names: of the logits.

    Raises:
      exits.CannotRun: nothing can be read there, it is of another network, or its numbers cannot be what their names say.
      exits.BadData: a file is damaged, or none that its name says.
    """
    source = sources.find(spec)
    description = describe(source, name)
    _check_pixels(model, description, spec, name)
    all_owners = owning.owners(model)
    head = owning.head_of(model, all_owners)
    read = weights.read(source, all_owners, head, name, model.input_shape[1:])
    backbone = [owner for owner in all_owners if owner is not head]
    owning.check_shapes(read.values, {v.path: v for owner in backbone for v in owner.variables}, source.place, name)
    kept = heads.rows(class_names, description.classes) if _knows_its_classes(read.head, description) else {}
    with_head = dict(zip((v.path for v in head.variables), read.head, strict=False)) if head else {}
    values.check(read.values | with_head, all_owners, source.place)
    for owner in backbone:
        for variable in owner.variables:
            variable.assign(read.values[variable.path])
    if head and kept:
        first = [keras.ops.convert_to_numpy(variable) for variable in head.variables]
        for variable, tensor in zip(head.variables, heads.merged(first, read.head, kept), strict=True):
            variable.assign(tensor)
    notes = (
        [] if source.kind == "run" else probe.check(model, source.place, name)
    )  # whose tensors have their right paths
    return _told(source, read, len(read.values), len(kept), len(class_names), notes)


def _knows_its_classes(head: list[np.ndarray], description: Description) -> bool:
    return bool(head) and head[0].shape[-1] == len(description.classes)


def _check_pixels(model: keras.Model, description: Description, spec: str, name: str) -> None:
    """CannotRun if the network normalizes pixels otherwise than the weights were trained with."""
    layer = next((layer for layer in model.layers if layer.name == "preprocess"), None)
    if layer is None or len(description.mean) != 3 or len(description.deviation) != 3:
        return
    image = np.array([0.0, 1.0], np.float32)[:, None, None, None] * np.ones(model.input_shape[1:], np.float32)
    seen = keras.ops.convert_to_numpy(layer(image))[:, 0, 0, :]
    mean, deviation = np.array(description.mean), np.array(description.deviation)
    if not np.allclose(seen, (np.array([[0.0], [1.0]]) - mean) / deviation, atol=1e-3):
        raise exits.CannotRun(
            f"--pretrained={shortened(spec)} was trained on pixels less {description.mean}, divided by {description.deviation},"
            f" and --model={name} brings them from 0 and 1 to {seen.round(3).tolist()}; take weights of this network."
        )


def _told(
    source: sources.Source, read: weights.Weights, loaded: int, kept: int, classes: int, notes: list[str]
) -> Loaded:
    known = f", {kept} of {classes} classes with their weights" if kept else ", new for all classes"
    unused = f", {len(read.unused)} left" if read.unused else ""
    used = counted(loaded, "tensor")
    line = f"weights of {source.place} (sha256 {read.digest[:12]}): {used} loaded{unused}; the head{known}."
    record = {
        "source": source.spec,
        "kind": source.kind,
        "sha256": read.digest,
        "loaded": loaded,
        "left": read.unused[:_LISTED],
        "left_count": len(read.unused),
        "classes_kept": kept,
        "classes_new": classes - kept,
    }
    return Loaded([line, *notes], record)
