"""Optimizers by name, through Keras; what Keras lacks or does otherwise is made here."""

from __future__ import annotations

import re

import keras

from trainer.config import RunConfig
from trainer.optimizers.schedules import Schedule


def build_optimizer(config: RunConfig, schedule: Schedule, model: keras.Model) -> keras.optimizers.Optimizer:
    """--optimizer with --weight_decay, built for the model's trainable variables.

    Weight decay is Keras': w <- w - learning_rate * weight_decay * w before the update, decoupled from the gradient
    (Loshchilov & Hutter 2019) for every optimizer, SGD too. Variables of fewer than two dimensions (biases, scales) are
    left out of it.
    """
    decay = config.weight_decay or None
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=decay)
    elif config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule, weight_decay=decay)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    else:
        optimizer = keras.optimizers.Muon(
            schedule, weight_decay=decay, adam_weight_decay=decay, exclude_layers=_last_kernel(model)
        )
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) < 2])
    optimizer.build(model.trainable_variables)
    return optimizer


def _last_kernel(model: keras.Model) -> list[str]:
    """The path of the classifier's kernel, which Muon leaves to Adam (Jordan et al. 2024), as Keras' list of patterns."""
    kernels = [v.path for v in model.trainable_variables if len(v.shape) == 2]
    return [f"^{re.escape(kernels[-1])}$"] if kernels else []
