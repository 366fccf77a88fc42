"""Records how timm groups the weights of its networks by depth: python timm_depths.py > golden/timm_depths.json.

Needs timm, which nothing else here does. For each network and depth: numbers in kernels and embeddings (tensors of more than
one axis), and in all trained tensors. param_groups_layer_decay multiplies the learning rate at a depth by
layer_decay ** (largest depth - depth).
"""

import json
import sys

import timm
import torch
from timm.models import group_parameters

NETWORKS = [
    "convnext_tiny", "cspresnet50", "densenet121", "efficientnet_b0", "efficientnet_lite0", "hgnetv2_b0", "inception_resnet_v2",
    "inception_v3", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "resnet18", "resnet50", "resnetv2_50",
    "swin_tiny_patch4_window7_224", "tf_efficientnetv2_b0", "tf_mobilenetv3_large_100", "vgg16", "vit_base_patch16_224",
    "legacy_xception",
]  # fmt: skip


def depths(name: str) -> list[tuple[int, int]]:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10)
    groups = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    sums = [[0, 0] for _ in range(max(groups.values()) + 1)]
    for path, parameter in model.named_parameters():
        sums[groups[path]][0] += parameter.numel() * (sum(side > 1 for side in parameter.shape) > 1)
        sums[groups[path]][1] += parameter.numel()
    return [tuple(pair) for pair in sums]


if __name__ == "__main__":
    document = {"timm": timm.__version__, "torch": torch.__version__, "classes": 10}
    json.dump(document | {"depths": {name: depths(name) for name in NETWORKS}}, sys.stdout)
