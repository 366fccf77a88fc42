"""Optimizers by name, through Keras; what Keras lacks or does otherwise is made here."""

from __future__ import annotations

import re

import keras
import numpy as np

from convoy.trainer.config import RunConfig
from convoy.trainer.optimizers.schedules import Schedule


def build_optimizer(config: RunConfig, schedule: Schedule, model: keras.Model) -> keras.optimizers.Optimizer:
    """--optimizer with --weight_decay, built for the model's trainable variables.

    Weight decay is Keras': w <- w - learning_rate * weight_decay * w before the update, decoupled from the gradient
    (Loshchilov & Hutter 2019) for every optimizer, SGD too. Variables of fewer than two dimensions (biases, scales) are
    left out of it.
    """
    decay = _single(config.weight_decay) if config.weight_decay else None
    betas = {"beta_1": _single(0.9), "beta_2": _single(0.999)}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, momentum=_single(0.9), nesterov=True, weight_decay=decay)
    elif config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule, weight_decay=decay, **betas)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=decay or 0.0, **betas)
    else:
        optimizer = keras.optimizers.Muon(
            schedule, weight_decay=decay, adam_weight_decay=decay, exclude_layers=_last_kernel(model)
        )
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    optimizer.build(model.trainable_variables)
    return optimizer


def _single(number: float) -> float:
    """The float32 next to a number: Keras takes that on TensorFlow, also where variables are float64, but not on JAX."""
    return float(np.float32(number))


def _last_kernel(model: keras.Model) -> list[str]:
    """The path of the classifier's kernel, which Muon leaves to Adam (Jordan et al. 2024), as Keras' list of patterns."""
    kernels = [v.path for v in model.trainable_variables if len(v.shape) == 2]
    return [f"^{re.escape(kernels[-1])}$"] if kernels else []
