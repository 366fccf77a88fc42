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
from convoy.trainer.models.zoo.families import Family, Network, stem


@dataclasses.dataclass(frozen=True)
class ModelEntry(Entry):
    """A row.

    Args:
      network: what is known of it; None for a row with an argument, and for what depends on the images.
      networks: what the argument may be, for a row that has one.
    """

    network: Network | None = None
    networks: Mapping[str, Network] = dataclasses.field(default_factory=dict)


AUTO, DEFAULT = "auto", "article_cnn"  # of --model

_RESIDUAL = Family(
    "ResNet", "He et al. 2016", "torch", (stem(r"stem_"), Rule(r"stage(?P<stage>\d)_block(?P<block>\d+)_")), min_side=8
)
_LITE = Family(
    "EfficientNet-Lite",
    "Tan and Le 2019",
    "tf",
    (stem(r"(conv_stem|bn1)/"), Rule(r"blocks\.(?P<stage>\d)\.(?P<block>\d)\."), Rule(r"(conv_head|bn2)/", joins=True)),
    "Apache-2.0",
)
_VIT = Family(
    "ViT",
    "Dosovitskiy et al. 2021, Beyer et al. 2022",
    "tf",
    (stem(r"embedding/"), Rule(r"block(?P<block>\d+)_"), Rule(r"encoder_norm/", joins=True)),
    min_side=16,
)

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
            network=Network(_RESIDUAL, 11_689_512, 224, 1_814_073_344),
        ),
        "resnet50": ModelEntry(
            "convoy.trainer.models.resnet:resnet50",
            "50 layers, bottleneck blocks, version 1.5",
            source="He et al. 2016, Goyal et al. 2017",
            options=("stochastic_depth",),
            network=Network(_RESIDUAL, 25_557_032, 224, 4_089_184_256),
        ),
        "efficientnet_lite0": ModelEntry(
            "convoy.trainer.models.efficientnet_lite:efficientnet_lite0",
            "EfficientNet for machines without an accelerator, 4.7 million parameters",
            source="Tan and Le 2019",
            options=("stochastic_depth",),
            network=Network(_LITE, 4_652_008, 224, 385_187_552),
        ),
        "vit_s16": ModelEntry(
            "convoy.trainer.models.vit:vit_s16",
            "ViT-S/16 without a class token, for images of a multiple of 16 pixels",
            source="Dosovitskiy et al. 2021, Beyer et al. 2022",
            network=Network(_VIT, 21_974_632, 224, 4_574_026_752),
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


def network_of(model: str) -> Network | None:
    """What is known of --model; None for a user's own, and for what depends on the images."""
    prefix, _, argument = model.partition(":")
    if is_users_own(model) or prefix not in MODELS:
        return None
    return MODELS[prefix].networks.get(argument) if argument else MODELS[prefix].network


def rules_of(model: str) -> tuple[Rule, ...]:
    """The rules for blocks of --model, for convoy.trainer.models.blocks; none for a user's own."""
    network = network_of(model)
    return network.family.blocks if network else ()


def networks() -> dict[str, Network]:
    """--model -> every network that has a row, in the order of a list."""
    listed = {name: row.network for name, row in MODELS.items() if row.network}
    for prefix, table in (("keras", keras_names.NETWORKS), ("hub", hub_names.NETWORKS)):
        listed |= {f"{prefix}:{name}": network for name, network in table.items()}
    return listed
