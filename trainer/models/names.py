"""The models: a row for each name that --model may be beside package.module:function. Imports nothing heavy.

A row's target takes (image_shape, num_classes) and the flags in its `options`, and returns a keras.Model of logits. With an
`argument` it takes that before them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from convoy.table import Entry, Table
from convoy.trainer.models.blocks import Rule
from convoy.trainer.models.zoo import hub_names, keras_names
from convoy.trainer.models.zoo.families import LITE, RESIDUAL, Network


@dataclasses.dataclass(frozen=True)
class ModelEntry(Entry):
    """A row.

    Args:
      blocks: rules for the depth of a variable (convoy.trainer.models.blocks); none for a network without blocks.
      networks: what the argument may be, for a row that has one.
    """

    blocks: tuple[Rule, ...] = ()
    networks: Mapping[str, Network] = dataclasses.field(default_factory=dict)


AUTO, DEFAULT = "auto", "article_cnn"  # of --model

MODELS: Table[ModelEntry] = Table(
    "model",
    {
        "article_cnn": ModelEntry(
            "convoy.trainer.models.article_cnn:article_cnn",
            "the tutorial's network, one convolution and two dense layers",
        ),
        "resnet18": ModelEntry(
            "convoy.trainer.models.resnet:resnet18",
            "18 layers, basic blocks",
            source="He et al. 2016",
            options=("stochastic_depth",),
            blocks=RESIDUAL,
        ),
        "resnet50": ModelEntry(
            "convoy.trainer.models.resnet:resnet50",
            "50 layers, bottleneck blocks, version 1.5",
            source="He et al. 2016, Goyal et al. 2017",
            options=("stochastic_depth",),
            blocks=RESIDUAL,
        ),
        "efficientnet_lite0": ModelEntry(
            "convoy.trainer.models.efficientnet_lite:efficientnet_lite0",
            "EfficientNet for machines without an accelerator, 4.7 million parameters",
            source="Tan and Le 2019",
            options=("stochastic_depth",),
            blocks=LITE,
        ),
        "keras": ModelEntry(
            "convoy.trainer.models.zoo.keras_networks:keras_network",
            "a network of keras.applications; `convoy models` lists them",
            argument="NAME",
            networks=keras_names.NETWORKS,
        ),
        "hub": ModelEntry(
            "convoy.trainer.models.zoo.hub_networks:hub_network",
            "a network of KerasHub, which needs keras-convoy[hub]; `convoy models` lists them",
            argument="NAME",
            networks=hub_names.NAMES,
        ),
    },
)


def is_users_own(model: str) -> bool:
    """Whether --model names a function of the user's, package.module:function."""
    prefix, colon, _ = model.partition(":")
    return bool(colon) and not (prefix in MODELS and MODELS[prefix].argument)


def rules_of(model: str) -> tuple[Rule, ...]:
    """The rules for blocks of --model, for convoy.trainer.models.blocks; none for a user's own."""
    if network := network_of(model):
        return network.family.blocks
    return MODELS[model].blocks if model in MODELS else ()


def network_of(model: str) -> Network | None:
    """What is known of --model=keras:NAME; None for others."""
    prefix, _, argument = model.partition(":")
    return MODELS[prefix].networks.get(argument) if prefix in MODELS else None
