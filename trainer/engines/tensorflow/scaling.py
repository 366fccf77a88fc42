"""The loss scale's variables, and updates that can be taken back. See trainer.engines.loss_scale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from trainer.engines import loss_scale


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

    @contextlib.contextmanager
    def only_if(self, finite: tf.Tensor, changed: list[tf.Variable]) -> Iterator[None]:
        """Assignments made within to the variables `changed` are undone where `finite` is false.

        By selection, not by a condition: under a strategy Keras' optimizers cannot stand inside one.
        """
        before = [tf.identity(variable) for variable in changed]
        with tf.control_dependencies(before):
            yield
        for variable, old in zip(changed, before, strict=True):
            variable.assign(tf.where(finite, variable, old))

    def advance(self, finite: tf.Tensor) -> tf.Tensor:
        """Moves the scale after a step; whether there is no hope left, at a scale of 1."""
        scale, good = self.variables.values()
        hopeless = loss_scale.hopeless(scale.value, finite)
        new_scale, new_good = loss_scale.advance(scale.value, good.value, finite)
        scale.assign(new_scale)
        good.assign(new_good)
        return hopeless
