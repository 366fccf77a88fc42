"""A run's devices and processes, as settled before the model is built; checks and Keras' settings that both engines share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import keras
import numpy as np

from convoy import exits
from convoy.data.pipeline import BatchSharding
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import normalization, onednn, patches
from convoy.trainer.flags.run.machine import AUTO_BUCKETS
from convoy.trainer.processes.cluster import Cluster

if TYPE_CHECKING:
    import jax
    import tensorflow as tf

    from convoy.trainer.models.pretrained.loading import Loaded

NEWEST = "4"  # of --kernels
BUCKETS = 8  # of gradients between hosts: what is left to send when the backward pass ends is an eighth


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A run on this machine: no `auto` is left in its configuration.

    `strategy_or_mesh` is the engine's own: a tf.distribute.Strategy; a Mesh of JAX, abstract where no device is needed.
    """

    config: RunConfig
    cluster: Cluster
    local_replicas: int  # of this process
    strategy_or_mesh: tf.distribute.Strategy | jax.sharding.Mesh | jax.sharding.AbstractMesh
    load: Callable[[keras.Model], Loaded] | None = None  # gives a model weights in the place of its first ones

    @property
    def replicas(self) -> int:
        return self.local_replicas * self.cluster.processes

    @property
    def batch_sharding(self) -> BatchSharding:
        """How batches of --batch_size come to this process."""
        return self.sharding(self.config.batch_size)

    def sharding(self, batch_size: int) -> BatchSharding:
        """How training batches of a size come to this process."""
        microbatches, first_replica = self.config.microbatches(batch_size), self.cluster.index * self.local_replicas
        return BatchSharding(batch_size, microbatches, self.replicas, first_replica, self.local_replicas)


def named(config: RunConfig, batch_size: int) -> str:
    """A batch size of a run, and the flag that has it."""
    of_ramp = f"a batch of {batch_size} (--batch_ramp)"
    return f"--batch_size={batch_size}" if batch_size == config.batch_size else of_ramp


def check_batch(config: RunConfig, replicas: int, where: str) -> None:
    """Raises CannotRun for a global batch that this number of replicas cannot share evenly."""
    for size in config.batch_sizes:
        if size % replicas:
            raise exits.CannotRun(
                f"{named(config, size)} cannot be shared evenly by {where}; give a multiple of {replicas}."
            )


def check_microbatches(config: RunConfig, model: keras.Model, replicas: int, frozen: Collection[int] = ()) -> None:
    """Raises CannotRun where --accumulate would show BatchNormalization other microbatches than one device sees.

    `frozen` are layers that see none, by `id`.
    """
    if config.accumulate == 1 or not normalization.has_batch_normalization(model, frozen):
        return
    for size in config.batch_sizes:
        microbatches = config.microbatches(size)
        if -(-size // (microbatches * replicas)) * replicas != -(-size // microbatches):
            raise exits.CannotRun(
                f"--accumulate={config.accumulate} cuts {named(config, size)} into microbatches that {replicas} devices"
                " cannot share evenly, so BatchNormalization would measure others than on one device; give a batch of which"
                f" each microbatch has a multiple of {replicas}."
            )


def set_up_keras(config: RunConfig) -> str:
    """Forgets what was built before in this process, sets seed and precision; returns the precision, resolved."""
    # Automatic layer names count up for as long as the process lives, and variables' paths are the keys of a checkpoint.
    # First of all: it forgets the seed and the precision too.
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed % 2**32)
    precision = "float32" if config.precision == "auto" else config.precision
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    keras.config.set_dtype_policy(precision)
    return precision


def compute_dtype(precision: str) -> str:
    """What layers compute in with a --precision that is resolved."""
    return precision.removeprefix("mixed_")


def resolved(config: RunConfig, processes: int) -> RunConfig:
    """Sets up Keras; returns the configuration with what that and the processes decide in the place of `auto`."""
    kernels = NEWEST if config.kernels == "auto" else config.kernels
    used = config.onednn
    if used != onednn.TENSORFLOWS_OWN:  # what is so in this process, into which TensorFlow was imported
        used = "on" if patches.computes_with_onednn() else "off"
    buckets = config.gradient_buckets
    if buckets == AUTO_BUCKETS:
        buckets = BUCKETS if processes > 1 else 1
    precision = set_up_keras(config)
    return dataclasses.replace(config, precision=precision, kernels=kernels, onednn=used, gradient_buckets=buckets)


def agreed(config: RunConfig, cluster: Cluster, from_leader: Callable[[np.ndarray], np.ndarray]) -> RunConfig:
    """The configuration with the leading process's ways to compute, which decide on the collectives of a step.

    Another process may not see the run directory, and so not know what a run that goes on was begun with.

    Args:
      config: resolved.
      cluster: of the processes, all of which call this.
      from_leader: an array -> the leading process's.
    """
    if cluster.processes == 1:
        return config
    kernels, buckets = from_leader(np.array([config.generation, config.gradient_buckets], np.int32)).tolist()
    return dataclasses.replace(config, kernels=str(kernels), gradient_buckets=buckets)


def topology(config: RunConfig, cluster: Cluster, local_replicas: int) -> str:
    """--strategy, `auto` resolved: one, mirrored or multiworker. Raises CannotRun where the environment contradicts it."""
    asked = config.strategy
    resolved = "multiworker" if cluster.processes > 1 else "mirrored" if local_replicas > 1 else "one"
    if asked in ("auto", resolved) or (asked == "mirrored" and resolved == "one"):
        return resolved if asked == "auto" else asked
    if asked == "multiworker":
        variables = "TF_CONFIG" if config.backend == "tensorflow" else "JAX_COORDINATOR_ADDRESS and its companions"
        raise exits.CannotRun(
            f"--strategy=multiworker, but {variables} names no other process; set it, or leave that out."
        )
    if resolved == "multiworker":
        raise exits.CannotRun(
            f"--strategy={asked} trains in one process, but the environment names {cluster.processes}; leave one of them out."
        )
    raise exits.CannotRun(
        f"--strategy=one trains on one device, but --devices={config.devices}; leave one of them out."
    )
