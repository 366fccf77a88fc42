"""--optimizer and --weight_decay -> a Keras optimizer, built for a model."""

from __future__ import annotations

import keras

from convoy.trainer.config import RunConfig
from convoy.trainer.optimizers.keras_own import single
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.optimizers.one_pass import small
from convoy.trainer.schedules.schedule import Schedule


def build_optimizer(config: RunConfig, schedule: Schedule, model: keras.Model) -> keras.optimizers.Optimizer:
    """--optimizer with --weight_decay, built for the model's trainable variables.

    Weight decay is Keras': w <- w - learning_rate * weight_decay * w before the update, decoupled from the gradient
    (Loshchilov & Hutter 2019). An optimizer of one_pass.py has it in its own formula. Variables of fewer than two dimensions
    (biases, scales) are left out of it.
    """
    weight_decay = single(config.weight_decay) if config.weight_decay else None
    optimizer = OPTIMIZERS.load(config.optimizer)(schedule, weight_decay, model, **config.optimizer_options)
    optimizer.exclude_from_weight_decay(var_list=small(model))
    optimizer.build(model.trainable_variables)
    return optimizer
