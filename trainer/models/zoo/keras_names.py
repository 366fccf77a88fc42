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
    "ConvNeXtTiny": Network(CONVNEXT, 28_589_128, 224, 4_455_531_264),
    "ConvNeXtSmall": Network(CONVNEXT, 50_223_688, 224, 8_683_712_256),
    "ConvNeXtBase": Network(CONVNEXT, 88_591_464, 224, 15_354_729_472),
    "ConvNeXtLarge": Network(CONVNEXT, 197_767_336, 224, 34_361_433_600),
    "ConvNeXtXLarge": Network(CONVNEXT, 350_196_968, 224, 60_921_030_656),
    "DenseNet121": Network(DENSENET, 7_978_856, 224, 2_834_161_664),
    "DenseNet169": Network(DENSENET, 14_149_480, 224, 3_359_843_328),
    "DenseNet201": Network(DENSENET, 20_013_928, 224, 4_291_365_888),
    "EfficientNetB0": Network(EFFICIENTNET, 5_288_548, 224, 385_814_752),
    "EfficientNetB1": Network(EFFICIENTNET, 7_794_184, 240, 686_802_832),
    "EfficientNetB2": Network(EFFICIENTNET, 9_109_994, 260, 993_561_872),
    "EfficientNetB3": Network(EFFICIENTNET, 12_233_232, 300, 1_827_141_392),
    "EfficientNetB4": Network(EFFICIENTNET, 19_341_616, 380, 4_393_771_024),
    "EfficientNetB5": Network(EFFICIENTNET, 30_389_784, 456, 10_266_384_752),
    "EfficientNetB6": Network(EFFICIENTNET, 43_040_704, 528, 19_067_593_536),
    "EfficientNetB7": Network(EFFICIENTNET, 66_347_960, 600, 37_745_884_192),
    "EfficientNetV2B0": Network(EFFICIENTNET_V2_B, 7_139_704, 224, 718_086_176),
    "EfficientNetV2B1": Network(EFFICIENTNET_V2_B, 8_141_052, 240, 1_196_819_360),
    "EfficientNetV2B2": Network(EFFICIENTNET_V2_B, 10_096_086, 260, 1_697_542_832),
    "EfficientNetV2B3": Network(EFFICIENTNET_V2_B, 14_358_406, 300, 3_011_458_816),
    "EfficientNetV2S": Network(EFFICIENTNET_V2, 21_458_488, 384, 8_365_617_152),
    "EfficientNetV2M": Network(EFFICIENTNET_V2, 54_139_356, 480, 24_582_460_384),
    "EfficientNetV2L": Network(EFFICIENTNET_V2, 118_515_272, 480, 56_079_699_008),
    "InceptionResNetV2": Network(INCEPTION_RESNET, 55_813_192, 299, 13_155_794_016),
    "InceptionV3": Network(INCEPTION, 23_817_352, 299, 5_713_216_096),
    "MobileNet": Network(MOBILENET, 4_231_976, 224, 568_740_352),
    "MobileNetV2": Network(MOBILENET_V2, 3_504_872, 224, 300_774_272),
    "MobileNetV3Large": Network(MOBILENET_V3, 5_483_032, 224, 216_589_760),
    "MobileNetV3Small": Network(MOBILENET_V3, 2_542_856, 224, 56_510_400),
    "NASNetLarge": Network(NASNET, 88_753_150, 331, 23_783_414_658),
    "NASNetMobile": Network(NASNET, 5_289_978, 224, 563_638_816),
    "ResNet50": Network(RESNET, 25_583_592, 224, 3_857_973_248),
    "ResNet101": Network(RESNET, 44_601_832, 224, 7_570_194_432),
    "ResNet152": Network(RESNET, 60_268_520, 224, 11_282_415_616),
    "ResNet50V2": Network(RESNET_V2, 25_568_360, 224, 3_482_255_360),
    "ResNet101V2": Network(RESNET_V2, 44_577_896, 224, 7_194_476_544),
    "ResNet152V2": Network(RESNET_V2, 60_236_904, 224, 10_906_697_728),
    "VGG16": Network(VGG, 138_357_544, 224, 15_470_264_320),
    "VGG19": Network(VGG, 143_667_240, 224, 19_632_062_464),
    "Xception": Network(XCEPTION, 22_855_952, 299, 8_357_403_496),
}
