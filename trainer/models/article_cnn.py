"""The tutorial's network, without its mistakes."""

from __future__ import annotations

import keras
from keras import layers

from convoy import exits


def article_cnn(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Conv 3x3 of 32, max-pool 2, dense 128, classifier: logits [n, num_classes] of images [n, h, w, c] in [0, 1].

    The article's first layer expects 224x224 pixels although its data has 32x32, and its last layer is a softmax. Here the
    shape is that of the data, and the loss computes the softmax, which is stable there.
    """
    if min(image_shape[:2]) < 4:
        raise exits.CannotRun(
            f"--model=article_cnn needs images of at least 4x4 pixels, these have {image_shape[1]}x{image_shape[0]}; give a"
            " larger --image_size."
        )
    return keras.Sequential(
        [
            keras.Input(image_shape, name="image"),
            layers.Conv2D(32, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation="relu", name="dense"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="article_cnn",
    )
