"""KerasHub's image classifiers: a row for each network. Imports nothing heavy.

KerasHub publishes presets, which are weights of a network; a preset's name stands for its network. tests/trainer/test_zoo.py
compares the numbers with KerasHub.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from convoy.trainer.models.zoo.families import Family, Network
from convoy.trainer.models.zoo.hub_families import (
    CSPNET,
    DEIT,
    DENSENET,
    EFFICIENTNET,
    HGNETV2,
    MIT,
    MOBILENET,
    MOBILENET_V5,
    RESNET,
    RESNET_V2,
    SWIN,
    VGG,
    VIT,
    XCEPTION,
)


class _Row(NamedTuple):
    """A network; its fields are those of Network, but for presets: what stands in their names behind that of the network."""

    family: Family
    parameters: int
    side: int
    multiplications: int
    architecture: str | Mapping[str, object]
    presets: str
    head: Mapping[str, object] = {}


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

# fmt: off
_ROWS = {
    "csp_darknet_53": _Row(CSPNET, 27_642_184, 256, 6_533_652_480, "cspdarknet53", "ra_imagenet"),
    "csp_resnet_50": _Row(CSPNET, 21_616_168, 256, 4_517_240_832, "cspresnet50", "ra_imagenet"),
    "csp_resnext_50": _Row(CSPNET, 20_569_896, 256, 4_014_948_352, "cspresnext50", "ra_imagenet"),
    "darknet_53": _Row(CSPNET, 41_609_928, 256, 9_285_115_904, "darknet53", "imagenet"),
    "deit_tiny_distilled_patch16": _Row(DEIT, 5_717_800, 224, 1_260_811_776, _deit(192), "224_imagenet"),
    "deit_small_distilled_patch16": _Row(DEIT, 22_051_432, 224, 4_623_756_288, _deit(384), "224_imagenet"),
    "deit_base_distilled_patch16": _Row(DEIT, 86_569_192, 224, 17_656_043_520, _deit(768), "384_imagenet 224_imagenet"),
    "densenet_121": _Row(DENSENET, 7_978_856, 224, 2_834_161_664, "densenet121", "imagenet"),
    "densenet_169": _Row(DENSENET, 14_149_480, 224, 3_359_843_328, "densenet169", "imagenet"),
    "densenet_201": _Row(DENSENET, 20_013_928, 224, 4_291_365_888, "densenet201", "imagenet"),
    "efficientnet_b0": _Row(EFFICIENTNET, 5_288_548, 224, 385_814_752, "efficientnet_b0",
        "ra_imagenet ra4_e3600_r224_imagenet"),
    "efficientnet_b1": _Row(EFFICIENTNET, 7_794_184, 240, 686_802_832, "efficientnet_b1",
        "ft_imagenet ra4_e3600_r240_imagenet"),
    "efficientnet_b2": _Row(EFFICIENTNET, 9_109_994, 260, 993_561_872, "efficientnet_b2", "ra_imagenet"),
    "efficientnet_b3": _Row(EFFICIENTNET, 12_233_232, 300, 1_827_141_392, "efficientnet_b3", "ra2_imagenet"),
    "efficientnet_b4": _Row(EFFICIENTNET, 19_341_616, 380, 4_393_771_024, "efficientnet_b4", "ra2_imagenet"),
    "efficientnet_b5": _Row(EFFICIENTNET, 30_389_784, 448, 9_404_374_080, "efficientnet_b5", "sw_imagenet sw_ft_imagenet"),
    "efficientnet_es": _Row(EFFICIENTNET, 5_438_392, 224, 1_788_731_008, "efficientnet_es", "ra_imagenet"),
    "efficientnet_em": _Row(EFFICIENTNET, 6_899_496, 240, 3_013_321_088, "efficientnet_em", "ra2_imagenet"),
    "efficientnet_el": _Row(EFFICIENTNET, 10_589_712, 300, 7_936_082_848, "efficientnet_el", "ra_imagenet"),
    "efficientnet_lite0": _Row(EFFICIENTNET, 4_652_008, 224, 385_187_552, "efficientnet_lite0", "ra_imagenet"),
    "efficientnet2_rw_t": _Row(EFFICIENTNET, 13_649_388, 224, 1_912_879_840, "efficientnetv2_rw_t", "ra2_imagenet"),
    "efficientnet2_rw_s": _Row(EFFICIENTNET, 23_941_296, 288, 4_862_701_312, "efficientnetv2_rw_s", "ra2_imagenet"),
    "efficientnet2_rw_m": _Row(EFFICIENTNET, 53_236_442, 320, 12_627_417_344, "efficientnetv2_rw_m", "agc_imagenet"),
    "hgnetv2_b0": _Row(HGNETV2, 6_000_584, 224, 421_989_760, "hgnetv2_b0", "", head={"head_filters": 2048}),
    "hgnetv2_b1": _Row(HGNETV2, 6_347_192, 224, 590_051_136, "hgnetv2_b1", "", head={"head_filters": 2048}),
    "hgnetv2_b2": _Row(HGNETV2, 11_225_368, 224, 1_288_698_624, "hgnetv2_b2", "", head={"head_filters": 2048}),
    "hgnetv2_b3": _Row(HGNETV2, 16_296_216, 224, 1_972_246_272, "hgnetv2_b3", "", head={"head_filters": 2048}),
    "hgnetv2_b4": _Row(HGNETV2, 19_800_776, 224, 2_935_474_944, "hgnetv2_b4", "ssld_stage2_ft_in1k"),
    "hgnetv2_b5": _Row(HGNETV2, 39_573_160, 224, 6_739_731_456, "hgnetv2_b5", "ssld_stage1_in22k_in1k ssld_stage2_ft_in1k"),
    "hgnetv2_b6": _Row(HGNETV2, 75_260_872, 224, 17_041_892_864, "hgnetv2_b6", "ssld_stage1_in22k_in1k ssld_stage2_ft_in1k"),
    "mit_b0": _Row(MIT, 3_576_392, 224, 452_467_200, _mit((32, 64, 160, 256), (2, 2, 2, 2)), "ade20k_512 cityscapes_1024"),
    "mit_b1": _Row(MIT, 13_664_424, 224, 1_675_637_760, _mit((64, 128, 320, 512), (2, 2, 2, 2)), "ade20k_512 cityscapes_1024"),
    "mit_b2": _Row(MIT, 24_709_288, 224, 3_271_284_736, _mit((64, 128, 320, 512), (3, 4, 6, 3)), "ade20k_512 cityscapes_1024"),
    "mit_b3": _Row(MIT, 44_585_128, 224, 6_141_853_696, _mit((64, 128, 320, 512), (3, 4, 18, 3)), "ade20k_512 cityscapes_1024"),
    "mit_b4": _Row(MIT, 61_355_688, 224, 8_920_174_080, _mit((64, 128, 320, 512), (3, 8, 27, 3)), "ade20k_512 cityscapes_1024"),
    "mit_b5": _Row(MIT, 81_956_008, 224, 11_717_260_288, _mit((64, 128, 320, 512), (3, 6, 40, 3)),
        "ade20k_640 cityscapes_1024"),
    "mobilenet_v3_small_050": _Row(MOBILENET, 1_593_224, 224, 24_188_688, "mobilenetv3_small_050", "imagenet"),
    "mobilenet_v3_small_100": _Row(MOBILENET, 2_542_856, 224, 56_510_400, "mobilenetv3_small_100", "imagenet"),
    "mobilenet_v3_large_100": _Row(MOBILENET, 5_483_032, 224, 216_589_760, "mobilenetv3_large_100",
        "imagenet imagenet_21k", head={"num_features": 1280}),
    "mobilenetv5_300m": _Row(MOBILENET_V5, 296_333_096, 768, 435_743_522_816, "mobilenetv5_300m", "enc_gemma3n"),
    "resnet_18": _Row(RESNET, 11_689_512, 224, 1_814_073_344, "resnet18", "imagenet"),
    "resnet_34": _Row(RESNET, 21_797_672, 224, 3_663_761_408, "resnet34", ""),
    "resnet_50": _Row(RESNET, 25_557_032, 224, 4_089_184_256, "resnet50", "imagenet"),
    "resnet_101": _Row(RESNET, 44_549_160, 224, 7_801_405_440, "resnet101", "imagenet"),
    "resnet_152": _Row(RESNET, 60_192_808, 224, 11_513_626_624, "resnet152", "imagenet"),
    "resnet_v2_50": _Row(RESNET_V2, 25_549_352, 224, 4_089_184_256, "resnetv2_50", "imagenet"),
    "resnet_v2_101": _Row(RESNET_V2, 44_541_480, 224, 7_801_405_440, "resnetv2_101", "imagenet"),
    "resnet_vd_18": _Row(RESNET, 11_712_968, 224, 2_066_558_976, _resnet_vd("basic", (2, 2, 2, 2)), "imagenet"),
    "resnet_vd_34": _Row(RESNET, 21_821_128, 224, 3_916_247_040, _resnet_vd("basic", (3, 4, 6, 3)), "imagenet"),
    "resnet_vd_50": _Row(RESNET, 25_576_264, 224, 4_328_824_832, _resnet_vd("bottleneck", (3, 4, 6, 3)),
        "imagenet ssld_imagenet ssld_v2_imagenet ssld_v2_fix_imagenet"),
    "resnet_vd_101": _Row(RESNET, 44_568_392, 224, 8_041_046_016, _resnet_vd("bottleneck", (3, 4, 23, 3)),
        "imagenet ssld_imagenet"),
    "resnet_vd_152": _Row(RESNET, 60_212_040, 224, 11_753_267_200, _resnet_vd("bottleneck", (3, 8, 36, 3)), "imagenet"),
    "resnet_vd_200": _Row(RESNET, 74_738_504, 224, 15_247_122_432, _resnet_vd("bottleneck", (3, 12, 48, 3)), "imagenet"),
    "swin_tiny_patch4_window7": _Row(SWIN, 28_288_354, 224, 4_490_566_656, _swin(96, (2, 2, 6, 2), 3, 7), "224"),
    "swin_small_patch4_window7": _Row(SWIN, 49_606_258, 224, 8_740_875_264, _swin(96, (2, 2, 18, 2), 3, 7), "224"),
    "swin_base_patch4_window7": _Row(SWIN, 87_768_224, 224, 15_430_946_816, _swin(128, (2, 2, 18, 2), 4, 7), "224"),
    "swin_base_patch4_window12": _Row(SWIN, 87_903_584, 384, 47_083_134_976, _swin(128, (2, 2, 18, 2), 4, 12), "384"),
    "swin_large_patch4_window7": _Row(SWIN, 196_532_476, 224, 34_475_759_616, _swin(192, (2, 2, 18, 2), 6, 7), "224"),
    "swin_large_patch4_window12": _Row(SWIN, 196_735_516, 384, 103_919_087_616, _swin(192, (2, 2, 18, 2), 6, 12), "384"),
    "vgg_11": _Row(VGG, 132_863_336, 224, 7_609_090_048, "vgg11", "imagenet"),
    "vgg_13": _Row(VGG, 133_047_848, 224, 11_308_466_176, "vgg13", "imagenet"),
    "vgg_16": _Row(VGG, 138_357_544, 224, 15_470_264_320, "vgg16", "imagenet"),
    "vgg_19": _Row(VGG, 143_667_240, 224, 19_632_062_464, "vgg19", "imagenet"),
    "vit_base_patch16": _Row(VIT, 86_567_656, 224, 17_563_828_224, _vit(16, 768, 12),
        "224_imagenet 384_imagenet 224_imagenet21k"),
    "vit_base_patch32": _Row(VIT, 88_297_192, 384, 13_043_564_544, _vit(32, 768, 12), "384_imagenet 224_imagenet21k"),
    "vit_large_patch16": _Row(VIT, 304_326_632, 224, 61_554_712_576, _vit(16, 1024, 24),
        "224_imagenet 384_imagenet 224_imagenet21k"),
    "vit_large_patch32": _Row(VIT, 306_632_680, 384, 45_275_963_392, _vit(32, 1024, 24), "384_imagenet 224_imagenet21k"),
    "vit_huge_patch14": _Row(VIT, 632_045_800, 224, 167_295_109_120, _vit(14, 1280, 32), "224_imagenet21k"),
    "xception_41": _Row(XCEPTION, 22_855_952, 299, 8_357_403_496, _XCEPTION, "imagenet"),
}
# fmt: on
NETWORKS = {
    name: Network(
        row.family,
        row.parameters,
        row.side,
        row.multiplications,
        presets=tuple(f"{name}_{preset}" for preset in row.presets.split()),
        architecture=row.architecture,
        head=row.head,
    )
    for name, row in _ROWS.items()
}
# These presets saw images otherwise than their families.
PRESET_PIXELS = {
    "efficientnet_b0_ra4_e3600_r224_imagenet": "tf",
    "efficientnet_b1_ra4_e3600_r240_imagenet": "tf",
    "mobilenet_v3_large_100_imagenet_21k": "unit",
}
# A preset's name stands for its network.
NAMES = NETWORKS | {preset: network for network in NETWORKS.values() for preset in network.presets}
