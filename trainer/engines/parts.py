"""What either engine builds before its programs: model, loss, optimizer, and what layers do on several replicas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from convoy.data.arrays import ClassCounts, Scalar
from convoy.trainer.engines import copies, first_weights, normalization, patches, randomness, variables
from convoy.trainer.engines.normalization import AllSum
from convoy.trainer.engines.runtime import Runtime, check_microbatches
from convoy.trainer.losses.build import Loss, build_loss
from convoy.trainer.models import rescaling
from convoy.trainer.models.build import build_model
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.schedules.schedule import Schedule, build_schedule


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model with all that trains it. `merged` are the model's other variables that become one after every step, by index."""

    model: keras.Model
    loss: Loss
    schedule: Schedule
    optimizer: keras.optimizers.Optimizer
    merged: list[int]
    classes: int
    image_shape: tuple[int, int, int]
    notes: list[str]  # what a person should know before the run begins


def build_parts(
    runtime: Runtime,
    image_shape: tuple[int, int, int],
    draws: ClassCounts,
    all_sum: AllSum,
    replica: Callable[[], Scalar],
) -> Parts:
    """Builds a run's model with its optimizer, and installs in its layers what several replicas need.

    Args:
      runtime: from `prepare`.
      image_shape: (height, width, channels).
      draws: how often an epoch of the training stream shows each class. There are as many logits, the sum turns epochs of
        the schedule into steps, and --loss corrects for them.
      all_sum: sums over the replicas, inside a step.
      replica: the index of the replica that asks, inside a step.

    Raises:
      exits.CannotRun: the model cannot be saved, or not be trained with these flags.
    """
    config, replicas = runtime.config, runtime.replicas
    with patches.first_weights(config.seed) as unrepeatable:
        model = build_model(config.model, image_shape, len(draws), **config.model_options)
    schedule = build_schedule(config, int(draws.sum()))
    optimizer = build_optimizer(config, schedule, model)
    variables.check(model, optimizer, config.model)
    check_microbatches(config, model, replicas)
    notes = rescaling.note(model, config.model) + first_weights.note(config.model, unrepeatable)
    normalization.install(model, config.batchnorm_spec, all_sum, replicas)
    if replicas > 1:
        notes += randomness.note(model, config.model)
        randomness.decorrelate_replicas(model, replica)
    loss = build_loss(config.loss_spec, config.label_smoothing, np.asarray(draws))
    merged = copies.merged_variables(model, replicas)
    return Parts(model, loss, schedule, optimizer, merged, len(draws), image_shape, notes)
