"""Keras' own optimizers, with the numbers of their papers.

Each function takes the schedule, the weight decay or None, and the model.
"""

from __future__ import annotations

import keras
import numpy as np

from convoy.trainer.optimizers.one_pass import exactly
from convoy.trainer.schedules.schedule import Schedule


def single(number: float) -> float:
    """The float32 next to a number: Keras takes that on TensorFlow, also where variables are float64, but not on JAX."""
    return float(np.float32(number))


_BETA_1 = single(0.9)


def adam(
    schedule: Schedule, weight_decay: float | None, model: keras.Model, beta_2: float
) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(schedule, weight_decay=weight_decay, beta_1=_BETA_1, beta_2=single(beta_2))


def adamw(
    schedule: Schedule, weight_decay: float | None, model: keras.Model, beta_2: float
) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay or 0.0, beta_1=_BETA_1, beta_2=single(beta_2))


def keras_lamb(schedule: Schedule, weight_decay: float | None, model: keras.Model) -> keras.optimizers.Optimizer:
    return keras.optimizers.Lamb(schedule, weight_decay=weight_decay, beta_1=_BETA_1, beta_2=single(0.999))


def lion(schedule: Schedule, weight_decay: float | None, model: keras.Model) -> keras.optimizers.Optimizer:
    return keras.optimizers.Lion(schedule, weight_decay=weight_decay, beta_1=_BETA_1, beta_2=single(0.99))


def muon(schedule: Schedule, weight_decay: float | None, model: keras.Model) -> keras.optimizers.Optimizer:
    return keras.optimizers.Muon(
        schedule, weight_decay=weight_decay, adam_weight_decay=weight_decay, exclude_layers=_last_kernel(model)
    )


def _last_kernel(model: keras.Model) -> list[str]:
    """The classifier's kernel, which Muon leaves to Adam (Jordan et al. 2024), as Keras' list of patterns."""
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) == 2]
    return [*exactly(kernels[-1:])]
