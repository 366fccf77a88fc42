"""Tensors of an HDF5 file of Keras that anybody may have written: .weights.h5 of Keras 3, or .h5 of Keras 2.

HDF5 can name other files, compress without bound, and declare terabytes that are not there. Here a dataset is stored as it is,
inside the file, as large as its shape says, or refused.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from convoy import exits
from convoy.outside import printable

_MAX_DEPTH, _MAX_OBJECTS = 32, 200_000
_VARIABLES = "vars"  # of a layer, in Keras 3
_NAMES, _WEIGHTS = "layer_names", "weight_names"  # attributes of Keras 2


class Layer(NamedTuple):
    """A layer's own variables.

    Attributes:
      names: its name, after those of the layers that it is in; the last stands for itself.
      tensors: in the order in which Keras creates them: kernel, bias; gamma, beta, mean, variance.
    """

    names: tuple[str, ...]
    tensors: tuple[np.ndarray, ...]


class _Odd(Exception):
    """Something that Keras does not write; the text completes `PLACE ...`."""


def layers(data: bytes, place: str) -> list[Layer]:
    """The layers of a file that have variables, in the file's order.

    Raises:
      exits.BadData: it is no such file, or holds what Keras does not write.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            root = file.get("model_weights", file)
            return list(
                _keras_2(root, len(data)) if _attribute(root, _NAMES) is not None else _keras_3(file, len(data))
            )
    except _Odd as odd:
        raise exits.BadData(f"{place} {odd}; it is no file of weights that Keras wrote.") from None
    except exits.ConvoyError:
        raise
    except Exception as error:  # h5py raises a dozen kinds for a damaged file
        raise exits.BadData(f"{place} is no sound HDF5 file: {printable(str(error))[:200]}.") from error


def _keras_3(file: h5py.File, limit: int) -> Iterator[Layer]:
    """Groups named after classes, each with a group `vars` whose attribute says the layer's name."""
    seen = set[int]()
    pending: list[tuple[h5py.Group, tuple[str, ...]]] = [(file, ())]
    while pending:
        group, names = pending.pop()
        if len(names) > _MAX_DEPTH or len(seen) > _MAX_OBJECTS:
            raise _Odd("has groups within groups without end")
        children = {name: _child(group, name, seen) for name in group}
        variables = children.pop(_VARIABLES, None)
        own = names
        if isinstance(variables, h5py.Group):
            own = (*names[:-1], _text(variables.attrs.get("name"), names[-1] if names else ""))
            members = {name: _child(variables, name, seen) for name in variables}
            numbered = sorted((int(name), member) for name, member in members.items() if name.isdecimal())
            tensors = tuple(_tensor(member, name, limit) for name, member in numbered)
            if tensors:
                yield Layer(own, tensors)
        inner = [(name, child) for name, child in children.items() if isinstance(child, h5py.Group)]
        # `layers` is a list of layers, not one itself.
        pending += [(child, own if name == "layers" else (*own, name)) for name, child in reversed(inner)]


def _keras_2(root: h5py.Group, limit: int) -> Iterator[Layer]:
    """A group a layer, whose attribute lists its variables by name: conv1/kernel:0, or block/conv1/kernel:0."""
    seen = set[int]()
    for layer in _attribute(root, _NAMES) or ():
        group = _child(root, layer, seen)
        if not isinstance(group, h5py.Group):
            raise _Odd(f"has no group {printable(layer)[:100]}")
        owned: dict[tuple[str, ...], list[np.ndarray]] = {}
        for weight in _attribute(group, _WEIGHTS) or ():
            node: Any = group
            for part in weight.split("/"):
                node = _child(node, part, None) if isinstance(node, h5py.Group) else None
            *names, _ = weight.split("/")
            owned.setdefault((*names[:-1], names[-1]) if names else (layer,), []).append(_tensor(node, weight, limit))
        if len(owned) == 1:
            owned = {(layer,): next(iter(owned.values()))}
        for names_of, tensors in owned.items():
            yield Layer(names_of, tuple(tensors))


def _child(group: h5py.Group, name: str, seen: set[int] | None) -> h5py.Group | h5py.Dataset | None:
    """What stands there under a name; _Odd for a link out of the file, or to what was met before."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise _Odd(f"has a link {printable(name)[:100]} to another place")
    node = group[name]
    if seen is not None:
        address = h5py.h5o.get_info(node.id).addr
        if address in seen:
            raise _Odd(f"has {printable(name)[:100]} in two places")
        seen.add(address)
    return node if isinstance(node, h5py.Group | h5py.Dataset) else None


def _tensor(node: Any, name: object, limit: int) -> np.ndarray:
    """A dataset's numbers, which lie in the file as they are; _Odd before any room is made for others."""
    if not isinstance(node, h5py.Dataset):
        raise _Odd(f"has no numbers at {printable(str(name))[:100]}")
    plain = node.dtype.kind in "fiub" or node.dtype.kind == "V"
    needed = math.prod(node.shape or ()) * node.dtype.itemsize
    properties = node.id.get_create_plist()
    if (
        not plain
        or node.shape is None
        or node.is_virtual
        or node.external
        or properties.get_nfilters()
        or needed > limit
        or node.id.get_storage_size() < needed
    ):
        raise _Odd(f"has numbers at {printable(str(name))[:100]} that are not stored in it as they are")
    tensor = np.asarray(node[()])
    if node.attrs.get("dtype") == "bfloat16" or node.dtype.kind == "V":
        import ml_dtypes

        if tensor.dtype.itemsize != 2:
            raise _Odd(f"has numbers of an unknown type at {printable(str(name))[:100]}")
        tensor = tensor.view(ml_dtypes.bfloat16)
    return tensor


def _attribute(group: h5py.Group, name: str) -> list[str] | None:
    """A list of texts, which Keras 2 cuts into several attributes where it is long; None if there is none."""
    keys = [name] if name in group.attrs else []
    if not keys and f"{name}0" in group.attrs:
        keys = [f"{name}{index}" for index in range(len(group.attrs)) if f"{name}{index}" in group.attrs]
    if not keys:
        return None
    return [_text(item, "") for key in keys for item in np.ravel(group.attrs[key]).tolist()]


def _text(value: Any, otherwise: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value else otherwise
