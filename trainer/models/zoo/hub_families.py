"""The families of KerasHub's image classifiers. Imports nothing heavy."""

from __future__ import annotations

from convoy.trainer.models.blocks import Rule
from convoy.trainer.models.zoo.families import Family, stem

_APACHE, _MIT = "Apache-2.0", "MIT"
CSPNET = Family(
    "CSPNet",
    "Wang et al. 2020",
    "torch",
    (
        stem(r"csp_stem_"),
        Rule(r"stage_(?P<stage>\d)_block_(?P<block>\d+)_"),
        Rule(r"stage_(?P<stage>\d)_csp_(conv_)?transition", joins=True),
        Rule(r"stage_(?P<stage>\d)_"),
    ),
    _APACHE,
    classifier="CSPNet",
)
DEIT = Family(
    "DeiT",
    "Touvron et al. 2021",
    "torch",
    (
        stem(r"deit_patching_and_embedding/"),
        Rule(r"deit_encoder/transformer_block_(?P<block>\d+)/"),
        Rule(r"deit_encoder/ln/", joins=True),
    ),
    _APACHE,
    classifier="DeiT",
)
DENSENET = Family(
    "DenseNet",
    "Huang et al. 2017",
    "torch",
    (
        stem(r"conv1_(conv|bn)"),
        Rule(r"stack(?P<stage>\d)_block(?P<block>\d+)_"),
        Rule(r"transition(?P<stage>\d)_", joins=True),
    ),
    _APACHE,
    classifier="DenseNet",
)
EFFICIENTNET = Family(
    "EfficientNet",
    "Tan and Le 2019",
    "torch",
    (
        stem(r"stem_"),
        Rule(r"block(?P<stage>\d)(?P<block>[a-z])_"),
        Rule(r"top_", joins=True),
    ),
    _APACHE,
    classifier="EfficientNet",
)
HGNETV2 = Family(
    "HGNetV2",
    "PaddlePaddle 2023",
    "torch",
    (
        stem(r"embedder/"),
        Rule(r"encoder/encoder_stage_(?P<stage>\d)/encoder_stage_\d_(downsample|block_(?P<block>\d+))/"),
    ),
    _APACHE,
    classifier="HGNetV2",
)
MIT = Family(
    "MiT",
    "Xie et al. 2021",
    "torch",
    (
        Rule(r"patch_and_embed_(?P<stage>\d)/"),
        Rule(r"hierarchical_encoder_(?P<stage>\d)_(?P<block>\d+)/"),
        Rule(r"layer_normalization", joins=True),
    ),
    "NVIDIA, research only",
    classifier="MiT",
)
MOBILENET = Family(
    "MobileNetV3",
    "Howard et al. 2019",
    "torch",
    (
        stem(r"input_"),
        Rule(r"block_(?P<stage>\d)_(?P<block>\d)/"),
    ),
    _APACHE,
    classifier="MobileNet",
)
MOBILENET_V5 = Family(
    "MobileNetV5",
    "Google 2025, Gemma 3n",
    "unit",
    (),
    "Gemma",
    classifier="MobileNetV5",
)
_RESNET_BLOCKS = (
    stem(r"conv\d_"),
    Rule(r"stack(?P<stage>\d)_block(?P<block>\d+)_"),
    Rule(r"post_bn/", joins=True),
)
RESNET = Family("ResNet", "He et al. 2016", "torch", _RESNET_BLOCKS, _APACHE, classifier="ResNet")
RESNET_V2 = Family("ResNetV2", "He et al. 2016, identity mappings", "tf", _RESNET_BLOCKS, _APACHE, classifier="ResNet")
SWIN = Family(
    "Swin",
    "Liu et al. 2021",
    "torch",
    (
        stem(r"patch_embedding/"),
        Rule(r"stage_(?P<stage>\d)/blocks_(?P<block>\d+)/"),
        Rule(r"stage_(?P<stage>\d)/downsample/", later=1),
        Rule(r"norm/", joins=True),
    ),
    _MIT,
    classifier="SwinTransformer",
)
VGG = Family(
    "VGG",
    "Simonyan and Zisserman 2015",
    "torch",
    (Rule(r"block(?P<stage>\d)_conv(?P<block>\d)/"),),
    "BSD-3-Clause",
    classifier="VGG",
    min_side=224,
)
VIT = Family(
    "ViT",
    "Dosovitskiy et al. 2021",
    "tf",
    (
        stem(r"vit_patching_and_embedding/"),
        Rule(r"vit_encoder/transformer_block_(?P<block>\d+)/"),
        Rule(r"vit_encoder/ln/", joins=True),
    ),
    _APACHE,
    classifier="ViT",
)
XCEPTION = Family(
    "Xception",
    "Chollet 2017",
    "tf",
    (
        stem(r"block1_"),
        Rule(r"block(?P<stage>\d+)_"),
    ),
    _MIT,
    classifier="Xception",
    min_side=71,
)
