"""The layers of a network that own weights, and what a file has for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from convoy import exits
from convoy.outside import printable

HEAD = "logits"


class Owner(NamedTuple):
    """A layer with floating variables of its own.

    Attributes:
      names: its name, after those of the layers that it is in, without those of models.
      layer: of Keras.
      variables: in the order in which Keras creates them.
    """

    names: tuple[str, ...]
    layer: keras.layers.Layer
    variables: tuple[keras.Variable, ...]

    @property
    def is_named_by_keras(self) -> bool:
        """Whether Keras made its name up: conv2d_17 is another number in the next network of the same process."""
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(self.layer).__name__)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        return re.fullmatch(rf"{kind}(_\d+)?", self.names[-1]) is not None


class Matched(NamedTuple):
    """What a file has for a network.

    Attributes:
      values: path of a variable -> its number, in the variable's shape; of the head in the file's own number of classes.
      unused: the file's names that no variable takes.
    """

    values: dict[str, np.ndarray]
    unused: list[str]


def owners(model: keras.Model) -> list[Owner]:
    """The layers with weights, in the order of the model."""
    return list(_owners(model))


def _owners(model: keras.Model) -> Iterator[Owner]:
    for layer in model._flatten_layers():
        own: list[Any] = [*layer._trainable_variables, *layer._non_trainable_variables]
        floating = tuple(v for v in own if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype)))
        if floating:
            yield Owner(tuple(floating[0].path.split("/")[:-1]) or (layer.name,), layer, floating)


def head_of(model: keras.Model, layers: Sequence[Owner]) -> Owner | None:
    """Of `owners`, the layer of the logits; None where no dense layer returns them."""
    dense = [owner for owner in layers if isinstance(owner.layer, keras.layers.Dense)]
    named = [owner for owner in dense if owner.names[-1] == HEAD]
    last = named or dense[-1:]
    return last[-1] if last and last[-1].variables[0].shape[-1] == model.output_shape[-1] else None


def check_shapes(values: Mapping[str, np.ndarray], variables: Mapping[str, Any], place: str, name: str) -> None:
    """CannotRun, a sentence, for a variable that the file lacks or has in another shape.

    Args:
      values: path -> tensor.
      variables: path -> variable, all that the file must have.
      place: where the file lies.
      name: --model.
    """
    missing = [path for path in variables if path not in values]
    if missing:
        raise exits.CannotRun(
            f"{place} has nothing for {len(missing)} of the {len(variables)} variables that --model={name} needs, the first is"
            f" {missing[0]}; it is of another network."
        )
    for path, variable in variables.items():
        if values[path].shape != tuple(variable.shape):
            raise exits.CannotRun(
                f"{place} has shape {values[path].shape} for the variable {printable(path)} of --model={name}, which has"
                f" {tuple(variable.shape)}; it is of another network, or of images of another size or number of colours."
            )
