"""What is built once, for training, measuring and timing alike: configuration, data, plan and engine.

Everything heavy is imported at the top, and Keras has one backend for the life of a process: call `engines.choose` before this
module is imported for the first time.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
from collections.abc import Mapping

import keras
import numpy as np

from convoy import exits, heartbeat
from convoy.counting import counted
from convoy.data import memory
from convoy.data.identity import Identity
from convoy.data.opening import Splits, open_splits
from convoy.data.sources.examples import Examples
from convoy.store import open_store
from convoy.trainer import engines, microbatches, minutes
from convoy.trainer.checkpoints import Checkpoint, select, weights
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import variables
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.engines.runtime import set_up_keras
from convoy.trainer.features import FeatureCache, check_bytes
from convoy.trainer.flags.run.training import AUTO_ACCUMULATE
from convoy.trainer.loop.plan import Plan
from convoy.trainer.models.build import build_model
from convoy.trainer.models.names import AUTO
from convoy.trainer.models.pretrained.loading import load as load_pretrained
from convoy.trainer.models.pretrained.settle import settle
from convoy.trainer.processes.cluster import Cluster
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import commands, dataset, opening, trust
from convoy.trainer.run_dir.dataset import Preprocessing
from convoy.trainer.run_dir.files import DATASET
from convoy.trainer.run_dir.stored_config import StoredConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run's parts, opened and agreed on.

    Attributes:
      config: no `auto` is left in it.
      data: the examples, divided.
      plan: when to evaluate, to save and to end.
      engine: the model on its devices.
      features: of the examples, with --cache_features, once they are computed.
    """

    config: RunConfig
    data: Splits
    plan: Plan
    engine: Engine
    features: FeatureCache | None = None

    @property
    def identity(self) -> Identity:
        """What data the run is begun on."""
        return self.data.identity

    def train(self, step: int) -> Examples:
        """What a step trains on: the training examples, or their features."""
        features = self.features
        return features.train if features and features.trains(step) else self.data.train

    def held_out(self, step: int) -> Examples | None:
        """What chooses the best checkpoint, where it is measured after so many steps: examples, or their features."""
        features = self.features
        return features.held_out if features and features.evaluates(step) else self.data.held_out


def build(
    config: RunConfig,
    signals: Signals | None = None,
    *,
    single_process: bool = False,
    download: bool = True,
    load: bool = False,
    stored: StoredConfig | None = None,
) -> Experiment:
    """Settles the devices, opens the data and builds the model.

    Args:
      config: the run's, `auto` included.
      signals: taken back here, if they are installed, from libraries that replace their handlers.
      single_process: whatever processes the environment names, this one works for itself.
      download: that of data.opening.open_splits.
      load: whether the model gets the weights of --pretrained; not if those of a checkpoint will replace them.
      stored: of the run that goes on, in its leading process: what `auto` and minutes were for it.
    """
    config = config.with_defaults()
    if config.model == AUTO:
        config = settle(config)
    backend = engines.choose(config.backend, config.onednn)
    runtime = backend.prepare(config, single_process)
    if signals:
        signals.install_again()
    with heartbeat.beating():
        data = open_splits(runtime.config.data, download)
        runtime = dataclasses.replace(runtime, config=dataclasses.replace(runtime.config, data=data.config))
        if load and config.pretrained:
            give = functools.partial(
                load_pretrained, name=config.model, spec=config.pretrained, class_names=data.dataset.class_names
            )
            runtime = dataclasses.replace(runtime, load=give)
        if not single_process:
            _check_batch(runtime.config, data, runtime.cluster)
    config = runtime.config
    # Of a run in several processes the leader alone knows what was measured before.
    if config.duration_spec.in_minutes and runtime.cluster.processes == 1:
        config = dataclasses.replace(config, duration=opening.measured_duration(config, stored) or config.duration)
    asked, in_minutes = config, config.duration_spec.in_minutes
    if in_minutes:
        config = dataclasses.replace(config, duration=minutes.UNMEASURED)
    plan = Plan.from_config(config, data.epoch)

    def build_again(config: RunConfig) -> Engine:
        set_up_keras(config)
        return backend.Engine(
            dataclasses.replace(runtime, config=config), data.dataset.image_shape, data.draws_per_class
        )

    if config.accumulate == AUTO_ACCUMULATE:
        trials = microbatches.Trials(config, data.train, plan.total, runtime.cluster.processes, build_again)
        config, engine = trials.settle(stored.unchecked.accumulate if stored else 0)
    else:
        engine = backend.Engine(
            dataclasses.replace(runtime, config=config), data.dataset.image_shape, data.draws_per_class
        )
    if in_minutes:
        known = functools.partial(opening.measured_duration, asked, stored)
        duration, notes = minutes.settle(asked.duration_spec, engine, data.train, known)
        del engine
        gc.collect()
        config = dataclasses.replace(config, duration=duration)
        plan, engine = Plan.from_config(config, data.epoch), build_again(config)
        engine.notes[:] = notes
    if config.cache_features:
        check_bytes(engine, data)
    heartbeat.beat()
    if signals:
        signals.install_again()
    return Experiment(config, data, plan, engine)


def _check_batch(config: RunConfig, data: Splits, cluster: Cluster) -> None:
    """Notes a batch that is larger than the data set, before the memory for it runs out; CannotRun where it must."""
    if config.batch_size > data.epoch and cluster.is_leader:
        examples = counted(data.epoch, "example")
        print(
            f"Note: --batch_size={config.batch_size} is more than an epoch, {examples}: every step sees examples more than"
            " once; give a smaller one.",
            flush=True,
        )
    images = config.batch_size // cluster.processes
    memory.check("batch_size", config.batch_size, "the images of a batch", images * math.prod(data.dataset.image_shape))


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A run's model, ready to be called, and what it takes and returns.

    Attributes:
      config: as the run was trained.
      checkpoint: where the weights are from.
      class_names: of the logits, in order.
      image_shape: (height, width, channels).
      preprocessing: how an image becomes what the model takes.
      model: images, floats [n, height, width, channels] -> logits; with averaged weights where the run kept an average.
    """

    config: RunConfig
    checkpoint: Checkpoint
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    model: keras.Model


def open_run(
    run_dir: str, checkpoint: str = "last", backend: str = "", model: str = "", trust_model_code: bool = False
) -> OpenedRun:
    """Opens a run for use, without its data set.

    Args:
      run_dir: the run.
      checkpoint: last, best, or a step.
      backend: tensorflow or jax, whichever the run was trained with; default: the one that Keras has in this process.
      model: the run's own package.module:function, given again: its code may be imported.
      trust_model_code: whatever code the run names may be imported.

    Raises:
      exits.CannotRun: there is no such run or checkpoint, or its code is not to be imported (run_dir.trust).
      exits.BadData: what stands there was damaged.
    """
    store = open_store(run_dir)
    stored = opening.trained_config(store, run_dir)
    config = trust.consented(stored, run_dir, model, trust_model_code)
    described = dataset.read(store)
    if described is None:
        raise exits.CannotRun(
            f"{run_dir} has no {DATASET}, for an older version of Convoy began it;"
            f" `{commands.of_directory(stored.unchecked, run_dir)}` writes it, where the data set is, and trains no further."
        )
    selected, tensors, _ = select(store, checkpoint)
    config = dataclasses.replace(
        config,
        backend=backend or keras.backend.backend(),
        devices="auto",
        strategy="one",
        xla="auto",
        deterministic=False,
    )
    config = engines.choose(config.backend, config.onednn).prepare(config, True).config
    built = build_model(config.model, described.image_shape, len(described.class_names), **config.model_options)
    _assign(built, tensors, config)
    return OpenedRun(config, selected, described.class_names, described.image_shape, described.preprocessing, built)


def _assign(model: keras.Model, tensors: Mapping[str, np.ndarray], config: RunConfig) -> None:
    """Gives a model the weights of a checkpoint, the averaged ones where there are some; CannotRun for another model's."""
    shapes = {
        variable.path: (tuple(variable.shape), np.dtype(keras.backend.standardize_dtype(variable.dtype)))
        for variable in model.variables
    }
    saved = weights(tensors)
    opening.refuse_other_model(functools.partial(variables.compare, shapes), saved, config)
    for variable in model.variables:
        variable.assign(saved[variable.path])
