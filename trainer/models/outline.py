"""The outline that all networks for fine-tuning share: image -> "preprocess" -> "backbone" -> "head_dropout" -> "logits"."""

from __future__ import annotations

import keras
from keras import layers, ops

from convoy import exits
from convoy.trainer.layers import Dropout
from convoy.trainer.models.zoo.families import Pixels


def assemble(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    pixels: Pixels,
    backbone: keras.Model,
    dropout: float = 0.0,
) -> keras.Model:
    """A network of logits [n, num_classes] of images [n, h, w, 1 or 3] in [0, 1].

    Its own preprocessing and the logits are computed in floatx, whatever the precision of the backbone.

    Args:
      name: of the model.
      image_shape: (height, width, channels); grey images are shown to the backbone as three equal colours.
      num_classes: logits of an image.
      pixels: how the backbone wants its pixels.
      backbone: preprocessed images [n, h, w, 3] -> features [n, d]; named "backbone".
      dropout: of the features, in [0, 1).
    """
    image = keras.Input(image_shape, name="image")
    x = backbone(preprocessing(pixels, image_shape)(image))
    if dropout:
        x = Dropout(dropout, name="head_dropout")(x)
    x = layers.Dense(num_classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(image, x, name=name)


def preprocessing(pixels: Pixels, image_shape: tuple[int, int, int]) -> layers.Layer:
    """The layer "preprocess": images in [0, 1], [n, h, w, 1 or 3] -> what the backbone sees, [n, h, w, 3]."""
    scale = [1 / deviation for deviation in pixels.deviation]
    offset = [-mean / deviation for mean, deviation in zip(pixels.mean, pixels.deviation, strict=True)]
    rescaling = layers.Rescaling(scale, offset, dtype=keras.config.floatx(), name="preprocess")
    channels = image_shape[-1]
    if channels == 3 and not pixels.reverse:
        return rescaling
    image = keras.Input(image_shape)
    x = ops.repeat(image, 3, axis=-1) if channels == 1 else ops.flip(image, axis=-1)
    return keras.Model(image, rescaling(x), name="preprocess")


def check_shape(name: str, image_shape: tuple[int, int, int], min_side: int) -> None:
    """Raises CannotRun for images that the network `name` cannot see."""
    height, width, channels = image_shape
    if min(height, width) < min_side:
        raise exits.CannotRun(
            f"--model={name} needs images of at least {min_side}x{min_side} pixels, these have {width}x{height}; give a larger"
            " --image_size."
        )
    if channels not in (1, 3):
        raise exits.CannotRun(
            f"--model={name} sees one or three colours, and these images have {channels} channels; take another network."
        )
