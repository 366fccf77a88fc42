"""How many blocks of a network stand between its variables, or layers, and its head."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import keras

from convoy.trainer.models import blocks
from convoy.trainer.models.blocks import Rule
from convoy.trainer.optimizers.groups import Depths

BACKBONE = "backbone"  # trainer/models/outline.py has the names of layers


def path_of(layer: keras.layers.Layer) -> str:
    """A layer's own path, as a variable in it would begin; dropout of the features goes with the head."""
    return "logits/" if layer.name == "head_dropout" else f"{layer.path or layer.name}/"


def build_depths(model: keras.Model, rules: Sequence[Rule]) -> Depths:
    """The depths of a model's variables and layers.

    Args:
      rules: of the network's family (trainer/models/blocks.py). Without any, every layer of the model that has weights is a
        block, those of models within it too; a layer without weights belongs to the block that comes next.
    """
    from_stem = _by_rules(model, rules) if rules else _by_layers(model)
    head = max(from_stem.values(), default=0)
    backbone = [layer for layer in model.layers if layer.name == BACKBONE]
    body = {variable.path for layer in backbone for variable in layer.weights}
    body |= {path_of(part) for layer in backbone for part in layer._flatten_layers()}
    return Depths({path: head - depth for path, depth in from_stem.items()}, frozenset(body))


def _by_rules(model: keras.Model, rules: Sequence[Rule]) -> dict[str, int]:
    paths = [variable.path for variable in model.weights]
    layers = [path_of(layer) for layer in model._flatten_layers() if not layer.weights]
    known, joint = blocks.depths(paths, rules), blocks.depths([*paths, *layers], rules)
    # A block that has no weights must not move those that have some: its layers belong to the block before it.
    ranks = sorted({joint[path]: known[path] for path in paths}.items())
    for layer in layers:
        index = bisect.bisect_right(ranks, (joint[layer], len(joint))) - 1
        known[layer] = ranks[max(index, 0)][1]
    return known


def _by_layers(model: keras.Model) -> dict[str, int]:
    known: dict[str, int] = {}
    depth = 0
    waiting: list[str] = []
    for layer in _chain(model):
        if not layer.weights:
            waiting.append(path_of(layer))
            continue
        known |= dict.fromkeys([*waiting, *(variable.path for variable in layer.weights)], depth)
        depth, waiting = depth + 1, []
    return known


def _chain(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model in its order, those of models within it in place of them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _chain(layer)
        else:
            yield layer
