"""What the networks of one family have in common: how pixels are scaled, where blocks are. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from convoy.trainer.models.blocks import Rule


class Pixels(NamedTuple):
    """A network's own preprocessing: images in [0, 1], [n, h, w, 3] in red, green, blue -> (images - mean) / deviation.

    Attributes:
      mean: of each channel of the result.
      deviation: the same.
      reverse: whether the channels of the result are blue, green, red.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    reverse: bool = False


# Keras calls the first three by these names (keras.applications.imagenet_utils.preprocess_input).
PIXELS = {
    "tf": Pixels((0.5,) * 3, (0.5,) * 3),
    "torch": Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Pixels((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, reverse=True),
    "128": Pixels((128 / 255,) * 3, (128 / 255,) * 3),
    "unit": Pixels((0.0,) * 3, (1.0,) * 3),
}


def stem(pattern: str) -> Rule:
    """The rule of what lies before every block."""
    return Rule(pattern, later=-1)


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of networks.

    Args:
      title: as its authors call it.
      source: the paper, for example "He et al. 2016".
      pixels: how its published weights saw images, a key of PIXELS.
      blocks: rules for the depth of a variable; convoy.trainer.models.blocks reads them.
      licence: of the published weights; "" where there are none.
      classifier: what builds it: a class of keras_hub.models; "" for keras.applications.
      inside: whether the library's own function scales pixels inside the network, unless it is told not to.
      min_side: the smallest images that it can be built for, in pixels.
    """

    title: str
    source: str
    pixels: str
    blocks: tuple[Rule, ...]
    licence: str = ""
    _: dataclasses.KW_ONLY
    classifier: str = ""
    inside: bool = False
    min_side: int = 32


@dataclasses.dataclass(frozen=True)
class Network:
    """One network, with its head for the thousand classes of ImageNet.

    Args:
      family: what it has in common with others.
      parameters: numbers that are trained.
      side: of the square images that its weights were trained for, in pixels.
      multiplications: with additions, of one image of that size, in convolutions, matrices and attention.
      presets: names under which KerasHub publishes weights of it.
      architecture: what KerasHub derives its shape from, timm's name for it; or that shape itself.
      head: what KerasHub's classifier takes besides.
    """

    family: Family
    parameters: int
    side: int
    multiplications: int
    _: dataclasses.KW_ONLY
    presets: tuple[str, ...] = ()
    architecture: str | Mapping[str, object] = ""
    head: Mapping[str, object] = dataclasses.field(default_factory=dict)
