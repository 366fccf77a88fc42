"""The loss scale's variables. See convoy.trainer.engines.loss_scale."""

from __future__ import annotations

import keras
import tensorflow as tf

from convoy.trainer.engines import loss_scale


class LossScale:
    """One loss scale, mirrored like the weights."""

    def __init__(self) -> None:
        self.variables = {
            "scale": keras.Variable(loss_scale.INITIAL, trainable=False, dtype="float32", name="scale"),
            "good_steps": keras.Variable(0, trainable=False, dtype="int32", name="good_steps"),
        }

    @property
    def value(self) -> tf.Tensor:
        return self.variables["scale"].value

    def advance(self, loss: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
        """Moves the scale after a step; returns whether the gradient overflows even at a scale of 1."""
        scale, good = self.variables.values()
        hopeless = loss_scale.hopeless(scale.value, loss, norm)
        new_scale, new_good = loss_scale.advance(scale.value, good.value, loss, norm)
        scale.assign(new_scale)
        good.assign(new_good)
        return hopeless
