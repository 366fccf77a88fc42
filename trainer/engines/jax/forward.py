"""A model's forward pass alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import keras
import numpy as np

from convoy.trainer.engines.jax.step import to_floats


def forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A function: images, uint8 [n, h, w, c] -> logits, floats [n, classes], as an evaluation computes them on one device."""

    @jax.jit
    def logits(trainable: list[jax.Array], other: list[jax.Array], images: jax.Array) -> jax.Array:
        return model.stateless_call(trainable, other, to_floats(images), training=False)[0].astype(
            keras.config.floatx()
        )

    trainable, other = ([v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables))
    return lambda images: np.asarray(logits(trainable, other, images))
