"""The classifiers of keras.applications: their families, and a row for each name. Imports nothing heavy.

tests/trainer/test_zoo.py compares the numbers with Keras.
"""

from __future__ import annotations

from convoy.trainer.models.blocks import Rule
from convoy.trainer.models.zoo.families import Family, Network, stem

_APACHE, _MIT = "Apache-2.0", "MIT"
_EFFICIENTNET = (
    stem(r"stem_"),
    Rule(r"block(?P<stage>\d)(?P<block>[a-z])_"),
    Rule(r"top_", joins=True),
)
_RESNET = (
    stem(r"conv1_"),
    Rule(r"conv(?P<stage>\d)_block(?P<block>\d+)_"),
    Rule(r"post_bn", joins=True),
)
_VGG = (Rule(r"block(?P<stage>\d)_conv(?P<block>\d)"),)

CONVNEXT = Family(
    "ConvNeXt",
    "Liu et al. 2022",
    "torch",
    (
        stem(r".*_stem"),
        Rule(r".*_downsampling_[a-z]+_(?P<stage>\d)", later=1),
        Rule(r".*_stage_(?P<stage>\d)_block_(?P<block>\d+)_"),
    ),
    _MIT,
    inside=True,
)
DENSENET = Family(
    "DenseNet",
    "Huang et al. 2017",
    "torch",
    (
        stem(r"conv1_(conv|bn)"),
        Rule(r"conv(?P<stage>\d)_block(?P<block>\d+)_"),
        Rule(r"pool(?P<stage>\d)_", joins=True),
    ),
    "BSD-3-Clause",
)
EFFICIENTNET = Family("EfficientNet", "Tan and Le 2019", "torch", _EFFICIENTNET, _APACHE, inside=True)
EFFICIENTNET_V2_B = Family("EfficientNetV2, B", "Tan and Le 2021", "torch", _EFFICIENTNET, _APACHE, inside=True)
EFFICIENTNET_V2 = Family("EfficientNetV2", "Tan and Le 2021", "128", _EFFICIENTNET, _APACHE, inside=True)
# Keras numbers most convolutions of Inception, from the stem on.
_NUMBERED = r"(conv2d|batch_normalization)(_(?P<stage>\d+))?/"
INCEPTION = Family(
    "Inception",
    "Szegedy et al. 2016",
    "tf",
    (Rule(_NUMBERED, starts=(3, 5, 12, 19, 26, 30, 40, 50, 60, 70, 76, 85)),),
    _APACHE,
    min_side=75,
)
INCEPTION_RESNET = Family(
    "Inception-ResNet",
    "Szegedy et al. 2017",
    "tf",
    (
        # 10, 20 and 10 blocks, with 6, 4 and 4 numbered convolutions.
        Rule(_NUMBERED, starts=(3, 5, *range(12, 72, 6), 72, *range(76, 156, 4), 156, *range(163, 203, 4))),
        Rule(r"block35_(?P<stage>\d+)_", later=2),
        Rule(r"block17_(?P<stage>\d+)_", later=13),
        Rule(r"block8_(?P<stage>\d+)_", later=34),
        Rule(r"conv_7b", joins=True),
    ),
    _APACHE,
    min_side=75,
)
MOBILENET = Family(
    "MobileNet",
    "Howard et al. 2017",
    "tf",
    (stem(r"conv1"), Rule(r"conv_(dw|pw)_(?P<block>\d+)")),
    _APACHE,
)
MOBILENET_V2 = Family(
    "MobileNetV2",
    "Sandler et al. 2018",
    "tf",
    (
        stem(r"Conv1|bn_Conv1"),
        Rule(r"expanded_conv_"),
        Rule(r"block_(?P<block>\d+)_"),
        Rule(r"Conv_1", joins=True),
    ),
    _APACHE,
)
MOBILENET_V3 = Family(
    "MobileNetV3",
    "Howard et al. 2019",
    "tf",
    (
        stem(r"conv(_bn)?/"),
        Rule(r"expanded_conv_(?P<block>\d+)_"),
        Rule(r"expanded_conv_"),
        Rule(r"conv_1(_bn)?/", later=1),
    ),
    _APACHE,
    inside=True,
)
NASNET = Family(
    "NASNet",
    "Zoph et al. 2018",
    "tf",
    (
        stem(r"stem_|.*_stem_\d/"),
        Rule(r".*_reduce_(?P<stage>\d+)/", later=1),  # with the cell after it, whose number is one larger
        Rule(r".*_(?P<stage>\d+)/"),
    ),
    _APACHE,
)
RESNET = Family("ResNet", "He et al. 2016", "caffe", _RESNET, _MIT)
RESNET_V2 = Family("ResNetV2", "He et al. 2016, identity mappings", "tf", _RESNET, _APACHE)
VGG = Family("VGG", "Simonyan and Zisserman 2015", "caffe", _VGG, "CC-BY-4.0")
XCEPTION = Family(
    "Xception",
    "Chollet 2017",
    "tf",
    (
        stem(r"block1_"),
        # The shortcuts of these blocks have no name of their own.
        Rule(r"(conv2d|batch_normalization)/", later=2),
        Rule(r"(conv2d|batch_normalization)_1/", later=3),
        Rule(r"(conv2d|batch_normalization)_2/", later=4),
        Rule(r"(conv2d|batch_normalization)_3/", later=13),
        Rule(r"block(?P<stage>\d+)_"),
    ),
    _MIT,
    min_side=71,
)


# parameters, side, multiplications with additions
NETWORKS = {
    "ConvNeXtTiny": Network(CONVNEXT, 0, 224, 0),
    "ConvNeXtSmall": Network(CONVNEXT, 0, 224, 0),
    "ConvNeXtBase": Network(CONVNEXT, 0, 224, 0),
    "ConvNeXtLarge": Network(CONVNEXT, 0, 224, 0),
    "ConvNeXtXLarge": Network(CONVNEXT, 0, 224, 0),
    "DenseNet121": Network(DENSENET, 0, 224, 0),
    "DenseNet169": Network(DENSENET, 0, 224, 0),
    "DenseNet201": Network(DENSENET, 0, 224, 0),
    "EfficientNetB0": Network(EFFICIENTNET, 0, 224, 0),
    "EfficientNetB1": Network(EFFICIENTNET, 0, 240, 0),
    "EfficientNetB2": Network(EFFICIENTNET, 0, 260, 0),
    "EfficientNetB3": Network(EFFICIENTNET, 0, 300, 0),
    "EfficientNetB4": Network(EFFICIENTNET, 0, 380, 0),
    "EfficientNetB5": Network(EFFICIENTNET, 0, 456, 0),
    "EfficientNetB6": Network(EFFICIENTNET, 0, 528, 0),
    "EfficientNetB7": Network(EFFICIENTNET, 0, 600, 0),
    "EfficientNetV2B0": Network(EFFICIENTNET_V2_B, 0, 224, 0),
    "EfficientNetV2B1": Network(EFFICIENTNET_V2_B, 0, 240, 0),
    "EfficientNetV2B2": Network(EFFICIENTNET_V2_B, 0, 260, 0),
    "EfficientNetV2B3": Network(EFFICIENTNET_V2_B, 0, 300, 0),
    "EfficientNetV2S": Network(EFFICIENTNET_V2, 0, 384, 0),
    "EfficientNetV2M": Network(EFFICIENTNET_V2, 0, 480, 0),
    "EfficientNetV2L": Network(EFFICIENTNET_V2, 0, 480, 0),
    "InceptionResNetV2": Network(INCEPTION_RESNET, 0, 299, 0),
    "InceptionV3": Network(INCEPTION, 0, 299, 0),
    "MobileNet": Network(MOBILENET, 0, 224, 0),
    "MobileNetV2": Network(MOBILENET_V2, 0, 224, 0),
    "MobileNetV3Large": Network(MOBILENET_V3, 0, 224, 0),
    "MobileNetV3Small": Network(MOBILENET_V3, 0, 224, 0),
    "NASNetLarge": Network(NASNET, 0, 331, 0),
    "NASNetMobile": Network(NASNET, 0, 224, 0),
    "ResNet50": Network(RESNET, 0, 224, 0),
    "ResNet101": Network(RESNET, 0, 224, 0),
    "ResNet152": Network(RESNET, 0, 224, 0),
    "ResNet50V2": Network(RESNET_V2, 0, 224, 0),
    "ResNet101V2": Network(RESNET_V2, 0, 224, 0),
    "ResNet152V2": Network(RESNET_V2, 0, 224, 0),
    "VGG16": Network(VGG, 0, 224, 0),
    "VGG19": Network(VGG, 0, 224, 0),
    "Xception": Network(XCEPTION, 0, 299, 0),
}
