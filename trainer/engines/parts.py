"""What either engine builds before its programs: model, loss, optimizer, and what layers do on several replicas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from convoy import exits
from convoy.data.arrays import ClassCounts, Scalar
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import (
    copies,
    first_weights,
    lookahead,
    normalization,
    patches,
    randomness,
    remat,
    stages,
    updates,
    variables,
)
from convoy.trainer.engines.depths import build_depths
from convoy.trainer.engines.normalization import AllSum, Normalize
from convoy.trainer.engines.runtime import Runtime, check_microbatches
from convoy.trainer.engines.stages import Stage
from convoy.trainer.engines.updates import Operations
from convoy.trainer.losses.build import Loss, build_loss
from convoy.trainer.models import rescaling
from convoy.trainer.models.build import build_model
from convoy.trainer.models.halves import InHalves
from convoy.trainer.models.names import rules_of
from convoy.trainer.models.pretrained.loading import Loaded
from convoy.trainer.optimizers.adaptive_clipping import AdaptiveClipping, adaptive_clipping
from convoy.trainer.optimizers.build import build_optimizer
from convoy.trainer.optimizers.groups import Depths, Treatments, build_treatments
from convoy.trainer.optimizers.names import OPTIMIZERS
from convoy.trainer.schedules.schedule import Schedule, build_schedule

_DEPENDENT_PARTS = (
    "--noise_scale is biased: with --batchnorm=sync the slices of a microbatch share their statistics, so their gradients are"
    " not independent; --batchnorm=local or ghost:N keeps them apart."
)
_STATISTICS_OF_TRAINING = (
    "Evaluations take the optimizer's average of the weights, and statistics of BatchNormalization that were measured at the"
    " weights in training."
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model with all that trains it.

    Attributes:
      merged: those of the model's other variables that become one after every step: index -> how (copies.merge).
      stages: of the run, in order.
      averaged_variables: the weights of which evaluations take an average, with --ema or an optimizer that has one.
      adaptive_clipping: --clip_agc.
    """

    model: keras.Model
    loss: Loss
    schedule: Schedule
    optimizer: keras.optimizers.Optimizer
    merged: dict[int, str]
    stages: list[Stage]
    averaged_variables: list[keras.Variable]
    adaptive_clipping: AdaptiveClipping | None
    classes: int
    image_shape: tuple[int, int, int]
    notes: list[str]  # what a person should know before the run begins
    loaded: Loaded | None  # what --pretrained gave the model
    features: int = 0  # of an image, with --cache_features
    features_until: int | None = None  # the first step at which the backbone trains; None: it never does


def build_parts(
    runtime: Runtime,
    image_shape: tuple[int, int, int],
    draws: ClassCounts,
    all_sum: AllSum,
    replica: Callable[[], Scalar],
    normalize: Normalize | None = None,
    operations: Callable[[keras.optimizers.Optimizer], Operations | None] | None = None,
) -> Parts:
    """Builds a run's model with its optimizer, and installs in its layers what several replicas need.

    Args:
      runtime: from `prepare`.
      image_shape: (height, width, channels).
      draws: how often an epoch of the training stream shows each class. There are as many logits, the sum turns epochs of
        the schedule into steps, and --loss corrects for them.
      all_sum: sums over the replicas, inside a step.
      replica: the index of the replica that asks, inside a step.
      normalize: the backend's own way to normalize batches, if it has one.
      operations: an optimizer -> the backend's own operations for its updates, if it has any.

    Raises:
      exits.CannotRun: the model cannot be saved, or not be trained with these flags.
    """
    config, replicas = runtime.config, runtime.replicas
    with patches.first_weights(config.seed) as unrepeatable:
        model = build_model(config.model, image_shape, len(draws), **config.model_options)
    loaded = runtime.load(model) if runtime.load else None
    treatments = _treatments(config, model)
    run_stages = stages.build_stages(config, model, treatments, int(draws.sum()))
    frozen = run_stages[-1].frozen
    schedule = build_schedule(config, int(draws.sum()))
    optimizer = build_optimizer(config, schedule, model)
    updates.install(
        optimizer,
        [treatments(variable.path) for variable in model.trainable_variables],
        [0, *config.unfreeze_borders(int(draws.sum()))],
        config.weight_decay,
        operations(optimizer) if operations else None,
    )
    if config.lookahead_spec.interval:
        lookahead.install(optimizer, model.trainable_variables, config.lookahead_spec)
    variables.check(model, optimizer, config.model)
    check_microbatches(config, model, replicas, frozen)
    notes = rescaling.note(model, config.model) + first_weights.note(config.model, unrepeatable)
    notes += (loaded.notes if loaded else []) + stages.note(model, run_stages)
    if config.noise_scale and normalization.spans_replicas(model, config.batchnorm_spec, replicas, frozen):
        notes.append(_DEPENDENT_PARTS)
    if OPTIMIZERS[config.optimizer].averages and normalization.has_batch_normalization(model, frozen):
        notes.append(_STATISTICS_OF_TRAINING)
    moving = normalization.install(
        model, config.batchnorm_spec, all_sum, replicas, frozen, normalize, merges=config.generation > 1
    )
    notes += randomness.install(model, config.model, replicas, replica)
    if config.remat:
        remat.install(model, config.model)
    stages.install(model, run_stages)
    loss = build_loss(config.loss_spec, config.label_smoothing, np.asarray(draws))
    merged = copies.merged_variables(model, replicas, moving)
    has_average = config.ema or hasattr(optimizer, "evaluation_value")
    averaged_variables = variables.averaged_variables(model, run_stages[-1].still) if has_average else []
    clipping = adaptive_clipping(config.clip_agc, model) if config.clip_agc else None
    parts = Parts(
        model,
        loss,
        schedule,
        optimizer,
        merged,
        run_stages,
        averaged_variables,
        clipping,
        len(draws),
        image_shape,
        notes,
        loaded,
    )
    return _in_halves(parts, config) if config.cache_features else parts


def _in_halves(parts: Parts, config: RunConfig) -> Parts:
    """The same with a model that takes features too; CannotRun if its backbone trains from the start."""
    model = InHalves(parts.model, config.model)
    borders = [stage.first_step for stage in parts.stages if id(model.backbone) not in stage.frozen]
    if borders[:1] == [0]:
        still = parts.stages[0].still
        path = next((variable.path for variable in model.backbone.variables if id(variable) not in still), "dropout")
        raise exits.CannotRun(
            f"--cache_features is not possible with a backbone that trains from the start, {path} for one; freeze all of it"
            " with --groups='^logits/:lr=1;.:freeze', or leave --cache_features out."
        )
    return dataclasses.replace(parts, model=model, features=model.features, features_until=min(borders, default=None))


def _treatments(config: RunConfig, model: keras.Model) -> Treatments:
    needs_depths = config.unfreeze or config.layer_decay < 1
    depths = build_depths(model, rules_of(config.model)) if needs_depths else Depths({})
    paths = [variable.path for variable in model.weights]
    layers = normalization.layers_of(model) if config.batchnorm_spec.mode == "frozen" else []
    return build_treatments(config, paths, depths, [variable.path for layer in layers for variable in layer.variables])
