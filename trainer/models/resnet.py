"""Residual networks (He et al. 2016, "Deep Residual Learning for Image Recognition"), as Goyal et al. 2017 train them.

Numbers and padding are torchvision's: their parameter counts and multiplications are those published for its weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import layers

from convoy import exits
from convoy.trainer.layers import StochasticDepth

# Images with a shorter side than this keep their size through the stem: the stem for photographs would make 8x8 of 32x32.
_PHOTOGRAPH = 64
# The stages halve an image three times, and at least one pixel has to remain.
_MIN_SIDE = 8

# Mean and standard deviation of ImageNet's red, green and blue in [0, 1].
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Convolution(NamedTuple):
    """One convolution of a residual branch."""

    kernel: int
    widening: int  # filters, as a multiple of the stage's
    strided: bool  # whether it has the block's stride


_BASIC = (_Convolution(3, 1, True), _Convolution(3, 1, False))
# v1.5: the 3x3 convolution has the stride (Goyal et al. 2017, section 5.1). He et al. give it to the first 1x1, which then
# never reads three quarters of the positions.
_BOTTLENECK = (_Convolution(1, 1, False), _Convolution(3, 1, True), _Convolution(1, 4, False))


def resnet18(image_shape: tuple[int, int, int], num_classes: int, stochastic_depth: float = 0.0) -> keras.Model:
    """Two basic blocks a stage (He et al., table 1): logits [n, num_classes] of images [n, h, w, c] in [0, 1].

    Images whose shorter side is below 64 get the stem for CIFAR: 3x3, stride 1, no max-pool. Blocks drop out in training
    at a rate in [0, 1) that grows linearly to `stochastic_depth` at the last (Huang et al. 2016, section 3).
    """
    return _resnet("resnet18", image_shape, num_classes, (2, 2, 2, 2), _BASIC, stochastic_depth)


def resnet50(image_shape: tuple[int, int, int], num_classes: int, stochastic_depth: float = 0.0) -> keras.Model:
    """3, 4, 6 and 3 bottleneck blocks, version 1.5; everything else is as in `resnet18`."""
    return _resnet("resnet50", image_shape, num_classes, (3, 4, 6, 3), _BOTTLENECK, stochastic_depth)


def _resnet(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    depths: tuple[int, ...],
    branch: tuple[_Convolution, ...],
    stochastic_depth: float,
) -> keras.Model:
    if min(image_shape[:2]) < _MIN_SIDE:
        raise exits.CannotRun(
            f"--model={name} needs images of at least {_MIN_SIDE}x{_MIN_SIDE} pixels, these have"
            f" {image_shape[1]}x{image_shape[0]}; give a larger --image_size."
        )
    image = keras.Input(image_shape, name="image")
    x = _stem(image)
    block = 0
    for stage, depth in enumerate(depths):
        for index in range(depth):
            block += 1
            rate = stochastic_depth * block / sum(depths)
            stride = 2 if stage and not index else 1
            x = _block(x, 64 * 2**stage, stride, branch, rate, f"stage{stage + 1}_block{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    # Goyal et al. 2017, section 5.1: the classifier from a normal distribution of deviation 0.01.
    x = layers.Dense(num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="logits")(x)
    return keras.Model(image, x, name=name)


def _stem(image: Any) -> Any:
    """[n, h, w, c] in [0, 1] -> [n, h, w, 64] of small images, [n, h / 4, w / 4, 64] of others (halves round up)."""
    x, (height, width, channels) = image, image.shape[1:]
    # Before any padding, so that the border has the mean colour. Only for images of three colours, whose mean is known: the
    # first BatchNormalization learns the scale of grey or multispectral images.
    if channels == 3:
        scale = [1 / deviation for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
        x = layers.Rescaling(scale, offset, name="normalize")(x)
    small = min(height, width) < _PHOTOGRAPH
    x = _convolution(x, 64, 3 if small else 7, 1 if small else 2, "stem_conv")
    x = layers.ReLU(name="stem_relu")(_normalization("stem_bn")(x))
    if not small:
        # After the ReLU no number is below zero, so a zero of the padding never wins a maximum.
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    return x


def _block(x: Any, filters: int, stride: int, branch: tuple[_Convolution, ...], rate: float, name: str) -> Any:
    """relu(shortcut + branch): [n, h, w, c] -> [n, h / stride, w / stride, filters * the last convolution's widening]."""
    shortcut, widened = x, filters * branch[-1].widening
    if stride > 1 or x.shape[-1] != widened:
        shortcut = _convolution(x, widened, 1, stride, f"{name}_shortcut_conv")
        shortcut = _normalization(f"{name}_shortcut_bn")(shortcut)
    for number, (kernel, widening, strided) in enumerate(branch, 1):
        last = number == len(branch)
        x = _convolution(x, filters * widening, kernel, stride if strided else 1, f"{name}_conv{number}")
        # The last scale starts at zero, so every branch adds nothing at first: Goyal et al. 2017, section 5.1.
        x = _normalization(f"{name}_bn{number}", scale="zeros" if last else "ones")(x)
        if not last:
            x = layers.ReLU(name=f"{name}_relu{number}")(x)
    if rate:
        x = StochasticDepth(rate, name=f"{name}_drop")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([shortcut, x]))


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    """A convolution without a bias, which BatchNormalization would cancel; padded by kernel // 2 on every side.

    Keras' own "same" with a stride of 2 pads an even image by one pixel less at the top and on the left. The kernel is
    He-normal over the fan-out (He et al. 2015, section 2.2) and not truncated, as in fb.resnet.torch and torchvision.
    """
    padding = "same" if stride == 1 else "valid"
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    # Each layer has its own initializer: a shared one would give layers of the same shape the same numbers.
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return layers.Conv2D(filters, kernel, stride, padding, use_bias=False, kernel_initializer=initializer, name=name)(x)


def _normalization(name: str, scale: str = "ones") -> layers.BatchNormalization:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=scale, name=name)
