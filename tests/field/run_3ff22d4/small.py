"""The model of the run: small, with layers that have statistics of their own or draw random numbers."""

import keras
from keras import layers

from convoy.trainer.layers import Dropout


def build(input_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(16, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="normalization"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            Dropout(0.25, name="dropout"),
            layers.Dense(32, activation="elu", name="dense"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="small",
    )
