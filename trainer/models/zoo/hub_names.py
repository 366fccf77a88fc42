"""KerasHub's image classifiers: their families, and a row for each network. Imports nothing heavy.

KerasHub publishes presets, which are weights of a network; a preset's name stands for its network. tests/trainer/test_zoo.py
compares the numbers with KerasHub.
"""

from __future__ import annotations

from convoy.trainer.models.blocks import Rule
from convoy.trainer.models.zoo.families import Family, Network, stem

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
RESNET = Family(
    "ResNet",
    "He et al. 2016",
    "torch",
    (
        stem(r"conv\d_"),
        Rule(r"stack(?P<stage>\d)_block(?P<block>\d+)_"),
        Rule(r"post_bn/", joins=True),
    ),
    _APACHE,
    classifier="ResNet",
)
RESNET_V2 = Family(
    "ResNetV2",
    "He et al. 2016, identity mappings",
    "tf",
    (
        stem(r"conv\d_"),
        Rule(r"stack(?P<stage>\d)_block(?P<block>\d+)_"),
        Rule(r"post_bn/", joins=True),
    ),
    _APACHE,
    classifier="ResNet",
)
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


def _deit(width: int) -> dict[str, object]:
    return {
        "patch_size": 16,
        "num_layers": 12,
        "num_heads": width // 64,
        "hidden_dim": width,
        "intermediate_dim": 4 * width,
    }


def _mit(widths: tuple[int, ...], depths: tuple[int, ...]) -> dict[str, object]:
    return {
        "layerwise_depths": depths,
        "num_layers": 4,
        "layerwise_num_heads": (1, 2, 5, 8),
        "layerwise_sr_ratios": (8, 4, 2, 1),
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": (7, 3, 3, 3),
        "layerwise_strides": (4, 2, 2, 2),
        "hidden_dims": widths,
    }


def _resnet_vd(block: str, depths: tuple[int, ...]) -> dict[str, object]:
    return {
        "input_conv_filters": [32, 32, 64],
        "input_conv_kernel_sizes": [3, 3, 3],
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_blocks": list(depths),
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": f"{block}_block_vd",
    }


def _swin(width: int, depths: tuple[int, ...], heads: int, window: int) -> dict[str, object]:
    return {
        "embed_dim": width,
        "depths": depths,
        "num_heads": tuple(heads * 2**stage for stage in range(4)),
        "window_size": window,
    }


def _vit(patch: int, width: int, depth: int) -> dict[str, object]:
    heads = width // (80 if width == 1280 else 64)
    return {"patch_size": patch, "num_layers": depth, "num_heads": heads, "hidden_dim": width, "mlp_dim": 4 * width}


_XCEPTION: dict[str, object] = {
    "stackwise_conv_filters": [[32, 64], [128] * 2, [256] * 2, [728] * 2, *[[728] * 3] * 8, [728, 1024], [1536, 2048]],
    "stackwise_pooling": [False, True, True, True, *[False] * 8, True, False],
}

# parameters, side, multiplications with additions
NETWORKS = {
    "csp_darknet_53": Network(
        CSPNET, 27_642_184, 256, 6_533_652_480, architecture="cspdarknet53", presets=("csp_darknet_53_ra_imagenet",)
    ),
    "csp_resnet_50": Network(
        CSPNET, 21_616_168, 256, 4_517_240_832, architecture="cspresnet50", presets=("csp_resnet_50_ra_imagenet",)
    ),
    "csp_resnext_50": Network(
        CSPNET, 20_569_896, 256, 4_014_948_352, architecture="cspresnext50", presets=("csp_resnext_50_ra_imagenet",)
    ),
    "darknet_53": Network(
        CSPNET, 41_609_928, 256, 9_285_115_904, architecture="darknet53", presets=("darknet_53_imagenet",)
    ),
    "deit_tiny_distilled_patch16": Network(
        DEIT,
        5_717_800,
        224,
        1_260_811_776,
        architecture=_deit(192),
        presets=("deit_tiny_distilled_patch16_224_imagenet",),
    ),
    "deit_small_distilled_patch16": Network(
        DEIT,
        22_051_432,
        224,
        4_623_756_288,
        architecture=_deit(384),
        presets=("deit_small_distilled_patch16_224_imagenet",),
    ),
    "deit_base_distilled_patch16": Network(
        DEIT,
        86_569_192,
        224,
        17_656_043_520,
        architecture=_deit(768),
        presets=(
            "deit_base_distilled_patch16_384_imagenet",
            "deit_base_distilled_patch16_224_imagenet",
        ),
    ),
    "densenet_121": Network(
        DENSENET, 7_978_856, 224, 2_834_161_664, architecture="densenet121", presets=("densenet_121_imagenet",)
    ),
    "densenet_169": Network(
        DENSENET, 14_149_480, 224, 3_359_843_328, architecture="densenet169", presets=("densenet_169_imagenet",)
    ),
    "densenet_201": Network(
        DENSENET, 20_013_928, 224, 4_291_365_888, architecture="densenet201", presets=("densenet_201_imagenet",)
    ),
    "efficientnet_b0": Network(
        EFFICIENTNET,
        5_288_548,
        224,
        385_814_752,
        architecture="efficientnet_b0",
        presets=(
            "efficientnet_b0_ra_imagenet",
            "efficientnet_b0_ra4_e3600_r224_imagenet",
        ),
    ),
    "efficientnet_b1": Network(
        EFFICIENTNET,
        7_794_184,
        240,
        686_802_832,
        architecture="efficientnet_b1",
        presets=(
            "efficientnet_b1_ft_imagenet",
            "efficientnet_b1_ra4_e3600_r240_imagenet",
        ),
    ),
    "efficientnet_b2": Network(
        EFFICIENTNET,
        9_109_994,
        260,
        993_561_872,
        architecture="efficientnet_b2",
        presets=("efficientnet_b2_ra_imagenet",),
    ),
    "efficientnet_b3": Network(
        EFFICIENTNET,
        12_233_232,
        300,
        1_827_141_392,
        architecture="efficientnet_b3",
        presets=("efficientnet_b3_ra2_imagenet",),
    ),
    "efficientnet_b4": Network(
        EFFICIENTNET,
        19_341_616,
        380,
        4_393_771_024,
        architecture="efficientnet_b4",
        presets=("efficientnet_b4_ra2_imagenet",),
    ),
    "efficientnet_b5": Network(
        EFFICIENTNET,
        30_389_784,
        448,
        9_404_374_080,
        architecture="efficientnet_b5",
        presets=(
            "efficientnet_b5_sw_imagenet",
            "efficientnet_b5_sw_ft_imagenet",
        ),
    ),
    "efficientnet_es": Network(
        EFFICIENTNET,
        5_438_392,
        224,
        1_788_731_008,
        architecture="efficientnet_es",
        presets=("efficientnet_es_ra_imagenet",),
    ),
    "efficientnet_em": Network(
        EFFICIENTNET,
        6_899_496,
        240,
        3_013_321_088,
        architecture="efficientnet_em",
        presets=("efficientnet_em_ra2_imagenet",),
    ),
    "efficientnet_el": Network(
        EFFICIENTNET,
        10_589_712,
        300,
        7_936_082_848,
        architecture="efficientnet_el",
        presets=("efficientnet_el_ra_imagenet",),
    ),
    "efficientnet_lite0": Network(
        EFFICIENTNET,
        4_652_008,
        224,
        385_187_552,
        architecture="efficientnet_lite0",
        presets=("efficientnet_lite0_ra_imagenet",),
    ),
    "efficientnet2_rw_t": Network(
        EFFICIENTNET,
        13_649_388,
        224,
        1_912_879_840,
        architecture="efficientnetv2_rw_t",
        presets=("efficientnet2_rw_t_ra2_imagenet",),
    ),
    "efficientnet2_rw_s": Network(
        EFFICIENTNET,
        23_941_296,
        288,
        4_862_701_312,
        architecture="efficientnetv2_rw_s",
        presets=("efficientnet2_rw_s_ra2_imagenet",),
    ),
    "efficientnet2_rw_m": Network(
        EFFICIENTNET,
        53_236_442,
        320,
        12_627_417_344,
        architecture="efficientnetv2_rw_m",
        presets=("efficientnet2_rw_m_agc_imagenet",),
    ),
    "hgnetv2_b0": Network(HGNETV2, 6_000_584, 224, 421_989_760, architecture="hgnetv2_b0", head={"head_filters": 2048}),
    "hgnetv2_b1": Network(HGNETV2, 6_347_192, 224, 590_051_136, architecture="hgnetv2_b1", head={"head_filters": 2048}),
    "hgnetv2_b2": Network(
        HGNETV2, 11_225_368, 224, 1_288_698_624, architecture="hgnetv2_b2", head={"head_filters": 2048}
    ),
    "hgnetv2_b3": Network(
        HGNETV2, 16_296_216, 224, 1_972_246_272, architecture="hgnetv2_b3", head={"head_filters": 2048}
    ),
    "hgnetv2_b4": Network(
        HGNETV2, 19_800_776, 224, 2_935_474_944, architecture="hgnetv2_b4", presets=("hgnetv2_b4_ssld_stage2_ft_in1k",)
    ),
    "hgnetv2_b5": Network(
        HGNETV2,
        39_573_160,
        224,
        6_739_731_456,
        architecture="hgnetv2_b5",
        presets=(
            "hgnetv2_b5_ssld_stage1_in22k_in1k",
            "hgnetv2_b5_ssld_stage2_ft_in1k",
        ),
    ),
    "hgnetv2_b6": Network(
        HGNETV2,
        75_260_872,
        224,
        17_041_892_864,
        architecture="hgnetv2_b6",
        presets=(
            "hgnetv2_b6_ssld_stage1_in22k_in1k",
            "hgnetv2_b6_ssld_stage2_ft_in1k",
        ),
    ),
    "mit_b0": Network(
        MIT,
        3_576_392,
        224,
        452_467_200,
        architecture=_mit((32, 64, 160, 256), (2, 2, 2, 2)),
        presets=(
            "mit_b0_ade20k_512",
            "mit_b0_cityscapes_1024",
        ),
    ),
    "mit_b1": Network(
        MIT,
        13_664_424,
        224,
        1_675_637_760,
        architecture=_mit((64, 128, 320, 512), (2, 2, 2, 2)),
        presets=(
            "mit_b1_ade20k_512",
            "mit_b1_cityscapes_1024",
        ),
    ),
    "mit_b2": Network(
        MIT,
        24_709_288,
        224,
        3_271_284_736,
        architecture=_mit((64, 128, 320, 512), (3, 4, 6, 3)),
        presets=(
            "mit_b2_ade20k_512",
            "mit_b2_cityscapes_1024",
        ),
    ),
    "mit_b3": Network(
        MIT,
        44_585_128,
        224,
        6_141_853_696,
        architecture=_mit((64, 128, 320, 512), (3, 4, 18, 3)),
        presets=(
            "mit_b3_ade20k_512",
            "mit_b3_cityscapes_1024",
        ),
    ),
    "mit_b4": Network(
        MIT,
        61_355_688,
        224,
        8_920_174_080,
        architecture=_mit((64, 128, 320, 512), (3, 8, 27, 3)),
        presets=(
            "mit_b4_ade20k_512",
            "mit_b4_cityscapes_1024",
        ),
    ),
    "mit_b5": Network(
        MIT,
        81_956_008,
        224,
        11_717_260_288,
        architecture=_mit((64, 128, 320, 512), (3, 6, 40, 3)),
        presets=(
            "mit_b5_ade20k_640",
            "mit_b5_cityscapes_1024",
        ),
    ),
    "mobilenet_v3_small_050": Network(
        MOBILENET,
        1_593_224,
        224,
        24_188_688,
        architecture="mobilenetv3_small_050",
        presets=("mobilenet_v3_small_050_imagenet",),
    ),
    "mobilenet_v3_small_100": Network(
        MOBILENET,
        2_542_856,
        224,
        56_510_400,
        architecture="mobilenetv3_small_100",
        presets=("mobilenet_v3_small_100_imagenet",),
    ),
    "mobilenet_v3_large_100": Network(
        MOBILENET,
        5_483_032,
        224,
        216_589_760,
        architecture="mobilenetv3_large_100",
        head={"num_features": 1280},
        presets=(
            "mobilenet_v3_large_100_imagenet",
            "mobilenet_v3_large_100_imagenet_21k",
        ),
    ),
    "mobilenetv5_300m": Network(
        MOBILENET_V5,
        296_333_096,
        768,
        435_743_522_816,
        architecture="mobilenetv5_300m",
        presets=("mobilenetv5_300m_enc_gemma3n",),
    ),
    "resnet_18": Network(
        RESNET, 11_689_512, 224, 1_814_073_344, architecture="resnet18", presets=("resnet_18_imagenet",)
    ),
    "resnet_34": Network(RESNET, 21_797_672, 224, 3_663_761_408, architecture="resnet34"),
    "resnet_50": Network(
        RESNET, 25_557_032, 224, 4_089_184_256, architecture="resnet50", presets=("resnet_50_imagenet",)
    ),
    "resnet_101": Network(
        RESNET, 44_549_160, 224, 7_801_405_440, architecture="resnet101", presets=("resnet_101_imagenet",)
    ),
    "resnet_152": Network(
        RESNET, 60_192_808, 224, 11_513_626_624, architecture="resnet152", presets=("resnet_152_imagenet",)
    ),
    "resnet_v2_50": Network(
        RESNET_V2, 25_549_352, 224, 4_089_184_256, architecture="resnetv2_50", presets=("resnet_v2_50_imagenet",)
    ),
    "resnet_v2_101": Network(
        RESNET_V2, 44_541_480, 224, 7_801_405_440, architecture="resnetv2_101", presets=("resnet_v2_101_imagenet",)
    ),
    "resnet_vd_18": Network(
        RESNET,
        11_712_968,
        224,
        2_066_558_976,
        architecture=_resnet_vd("basic", (2, 2, 2, 2)),
        presets=("resnet_vd_18_imagenet",),
    ),
    "resnet_vd_34": Network(
        RESNET,
        21_821_128,
        224,
        3_916_247_040,
        architecture=_resnet_vd("basic", (3, 4, 6, 3)),
        presets=("resnet_vd_34_imagenet",),
    ),
    "resnet_vd_50": Network(
        RESNET,
        25_576_264,
        224,
        4_328_824_832,
        architecture=_resnet_vd("bottleneck", (3, 4, 6, 3)),
        presets=(
            "resnet_vd_50_imagenet",
            "resnet_vd_50_ssld_imagenet",
            "resnet_vd_50_ssld_v2_imagenet",
            "resnet_vd_50_ssld_v2_fix_imagenet",
        ),
    ),
    "resnet_vd_101": Network(
        RESNET,
        44_568_392,
        224,
        8_041_046_016,
        architecture=_resnet_vd("bottleneck", (3, 4, 23, 3)),
        presets=(
            "resnet_vd_101_imagenet",
            "resnet_vd_101_ssld_imagenet",
        ),
    ),
    "resnet_vd_152": Network(
        RESNET,
        60_212_040,
        224,
        11_753_267_200,
        architecture=_resnet_vd("bottleneck", (3, 8, 36, 3)),
        presets=("resnet_vd_152_imagenet",),
    ),
    "resnet_vd_200": Network(
        RESNET,
        74_738_504,
        224,
        15_247_122_432,
        architecture=_resnet_vd("bottleneck", (3, 12, 48, 3)),
        presets=("resnet_vd_200_imagenet",),
    ),
    "swin_tiny_patch4_window7": Network(
        SWIN,
        28_288_354,
        224,
        4_490_566_656,
        architecture=_swin(96, (2, 2, 6, 2), 3, 7),
        presets=("swin_tiny_patch4_window7_224",),
    ),
    "swin_small_patch4_window7": Network(
        SWIN,
        49_606_258,
        224,
        8_740_875_264,
        architecture=_swin(96, (2, 2, 18, 2), 3, 7),
        presets=("swin_small_patch4_window7_224",),
    ),
    "swin_base_patch4_window7": Network(
        SWIN,
        87_768_224,
        224,
        15_430_946_816,
        architecture=_swin(128, (2, 2, 18, 2), 4, 7),
        presets=("swin_base_patch4_window7_224",),
    ),
    "swin_base_patch4_window12": Network(
        SWIN,
        87_903_584,
        384,
        47_083_134_976,
        architecture=_swin(128, (2, 2, 18, 2), 4, 12),
        presets=("swin_base_patch4_window12_384",),
    ),
    "swin_large_patch4_window7": Network(
        SWIN,
        196_532_476,
        224,
        34_475_759_616,
        architecture=_swin(192, (2, 2, 18, 2), 6, 7),
        presets=("swin_large_patch4_window7_224",),
    ),
    "swin_large_patch4_window12": Network(
        SWIN,
        196_735_516,
        384,
        103_919_087_616,
        architecture=_swin(192, (2, 2, 18, 2), 6, 12),
        presets=("swin_large_patch4_window12_384",),
    ),
    "vgg_11": Network(VGG, 132_863_336, 224, 7_609_090_048, architecture="vgg11", presets=("vgg_11_imagenet",)),
    "vgg_13": Network(VGG, 133_047_848, 224, 11_308_466_176, architecture="vgg13", presets=("vgg_13_imagenet",)),
    "vgg_16": Network(VGG, 138_357_544, 224, 15_470_264_320, architecture="vgg16", presets=("vgg_16_imagenet",)),
    "vgg_19": Network(VGG, 143_667_240, 224, 19_632_062_464, architecture="vgg19", presets=("vgg_19_imagenet",)),
    "vit_base_patch16": Network(
        VIT,
        86_567_656,
        224,
        17_563_828_224,
        architecture=_vit(16, 768, 12),
        presets=(
            "vit_base_patch16_224_imagenet",
            "vit_base_patch16_384_imagenet",
            "vit_base_patch16_224_imagenet21k",
        ),
    ),
    "vit_base_patch32": Network(
        VIT,
        88_297_192,
        384,
        13_043_564_544,
        architecture=_vit(32, 768, 12),
        presets=(
            "vit_base_patch32_384_imagenet",
            "vit_base_patch32_224_imagenet21k",
        ),
    ),
    "vit_large_patch16": Network(
        VIT,
        304_326_632,
        224,
        61_554_712_576,
        architecture=_vit(16, 1024, 24),
        presets=(
            "vit_large_patch16_224_imagenet",
            "vit_large_patch16_384_imagenet",
            "vit_large_patch16_224_imagenet21k",
        ),
    ),
    "vit_large_patch32": Network(
        VIT,
        306_632_680,
        384,
        45_275_963_392,
        architecture=_vit(32, 1024, 24),
        presets=(
            "vit_large_patch32_384_imagenet",
            "vit_large_patch32_224_imagenet21k",
        ),
    ),
    "vit_huge_patch14": Network(
        VIT,
        632_045_800,
        224,
        167_295_109_120,
        architecture=_vit(14, 1280, 32),
        presets=("vit_huge_patch14_224_imagenet21k",),
    ),
    "xception_41": Network(
        XCEPTION, 22_855_952, 299, 8_357_403_496, architecture=_XCEPTION, presets=("xception_41_imagenet",)
    ),
}
# These presets saw images otherwise than their families.
PRESET_PIXELS = {
    "efficientnet_b0_ra4_e3600_r224_imagenet": "tf",
    "efficientnet_b1_ra4_e3600_r240_imagenet": "tf",
    "mobilenet_v3_large_100_imagenet_21k": "unit",
}
# A preset's name stands for its network.
NAMES = NETWORKS | {preset: network for network in NETWORKS.values() for preset in network.presets}
