"""EfficientNet-Lite0: EfficientNet-B0 without squeeze and excitation and with ReLU6, for machines without an accelerator.

Source: the authors' published network (Tan and Le 2019, "EfficientNet", section 3 and table 1; Lite: 2020), padded as
TensorFlow pads "same". Layers have the names that timm gives them, so that its weights are found by name.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from convoy.trainer.layers import StochasticDepth
from convoy.trainer.models.outline import assemble, check_shape
from convoy.trainer.models.zoo.families import PIXELS

# Blocks, kernel, stride of the first block, expansion, filters of each stage.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))  # fmt: skip
_DROPOUT = 0.2  # of the features


def efficientnet_lite0(
    image_shape: tuple[int, int, int], num_classes: int, stochastic_depth: float = 0.0
) -> keras.Model:
    """Logits [n, num_classes] of images [n, h, w, 1 or 3] in [0, 1], of at least 32x32 pixels.

    Blocks drop out in training at a rate in [0, 1) that grows linearly to `stochastic_depth` at the last.
    """
    check_shape("efficientnet_lite0", image_shape, 32)
    image = keras.Input((*image_shape[:2], 3), name="pixels")
    x = _convolution(image, 32, 3, 2, "conv_stem", "bn1")
    blocks, index = sum(stage[0] for stage in _STAGES), 0
    for stage, (depth, kernel, stride, expansion, filters) in enumerate(_STAGES):
        for block in range(depth):
            index += 1
            rate = stochastic_depth * index / blocks
            x = _block(x, kernel, 1 if block else stride, expansion, filters, rate, f"blocks.{stage}.{block}.")
    x = _convolution(x, 1280, 1, 1, "conv_head", "bn2")
    x = layers.GlobalAveragePooling2D(name="global_pool")(x)
    backbone = keras.Model(image, x, name="backbone")
    return assemble("efficientnet_lite0", image_shape, num_classes, PIXELS["tf"], backbone, _DROPOUT)


def _block(x: Any, kernel: int, stride: int, expansion: int, filters: int, rate: float, name: str) -> Any:
    """Inverted bottleneck (Sandler et al. 2018, section 3.4): [n, h, w, c] -> [n, h / stride, w / stride, filters]."""
    shortcut = x
    if expansion > 1:
        x = _convolution(x, expansion * x.shape[-1], 1, 1, f"{name}conv_pw", f"{name}bn1")
    # timm counts convolutions and normalizations of a block from its first one.
    last, first = ("conv_pwl", 2) if expansion > 1 else ("conv_pw", 1)
    x = _convolution(x, None, kernel, stride, f"{name}conv_dw", f"{name}bn{first}")
    x = _convolution(x, filters, 1, 1, f"{name}{last}", f"{name}bn{first + 1}", activation=False)
    if x.shape != shortcut.shape:
        return x
    if rate:
        x = StochasticDepth(rate, name=f"{name}drop_path")(x)
    return layers.Add(name=f"{name}add")([x, shortcut])


def _convolution(
    x: Any, filters: int | None, kernel: int, stride: int, name: str, normalization: str, activation: bool = True
) -> Any:
    """A normalized convolution, of each channel by itself if `filters` is None; He-normal over the fan-out, as the authors'."""
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    if filters is None:
        x = layers.DepthwiseConv2D(
            kernel, stride, "same", use_bias=False, depthwise_initializer=initializer, name=name
        )(x)
    else:
        x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False, kernel_initializer=initializer, name=name)(x)
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=normalization)(x)
    return layers.ReLU(6.0, name=f"{normalization}.act")(x) if activation else x
