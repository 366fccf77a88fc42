"""The tutorial's network, with its mistakes put right."""

from __future__ import annotations

import keras
from keras import layers

from convoy import exits


def article_cnn(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Conv 3x3 of 32, max-pool 2, dense 128, classifier: logits [n, num_classes] of images [n, h, w, c] in [0, 1].

    The article gives the first layer images of 224x224 where the data has 32x32, and ends in a softmax; here the shape is
    the data's and the softmax belongs to the loss, where it is computed stably.
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
