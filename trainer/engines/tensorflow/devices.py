"""--devices, --strategy and --precision for TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from convoy import exits
from convoy.counting import counted
from convoy.data.parallel import cores
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import memory
from convoy.trainer.engines.lost import cannot_join
from convoy.trainer.engines.memory import LIMITLESS, OutOfMemory, StepMemory
from convoy.trainer.engines.runtime import Runtime, agreed, check_batch, resolved, topology
from convoy.trainer.engines.tensorflow.processes import ProcessSum
from convoy.trainer.processes import cluster as clusters
from convoy.trainer.processes.cluster import Cluster

INTER_OP, ANSWERING = "TF_NUM_INTEROP_THREADS", 4
# Whether operations are deterministic in this process: TensorFlow can turn that on, not off again.
deterministic = False


def prepare(config: RunConfig, ignore_cluster: bool = False) -> Runtime:
    """Makes the asked devices the only visible ones, joins the other processes, and resolves what was `auto`.

    Before anything else touches TensorFlow: reading a data set with it, too, fixes what is visible, and collective operations
    between processes must be set up before the first one runs.

    Args:
      config: the run.
      ignore_cluster: whatever processes the environment names, this one works for itself.
    """
    cluster = Cluster() if ignore_cluster else clusters.from_environment("tensorflow")
    if cluster.processes > 1 and INTER_OP not in os.environ:
        # A peer asks for what it adds up; a host whose threads all compute would answer between two operations only.
        with contextlib.suppress(RuntimeError):  # TensorFlow has computed in this process before, and keeps its threads
            tf.config.threading.set_inter_op_parallelism_threads(max(ANSWERING, cores()))
    if config.strategy == "tpu" or (config.strategy == "auto" and config.devices_spec.is_auto and _tpu_is_here()):
        return _prepare_tpu(config)
    gpus = tf.config.list_physical_devices("GPU")
    asked = config.devices
    if config.devices_spec.is_auto:
        asked = f"gpu:{1 if config.strategy == 'one' else len(gpus)}" if gpus else "cpu:1"
    config = dataclasses.replace(config, devices=asked, xla="off" if config.xla == "auto" else config.xla)
    kind, count = config.devices_spec.platform, config.devices_spec.count
    strategy = topology(config, cluster, count)
    if strategy == "multiworker" and kind == "cpu" and count > 1:
        raise exits.CannotRun(
            f"--devices={asked}: TensorFlow's MultiWorkerMirroredStrategy uses one CPU device in each process; give cpu:1 and"
            " start more processes."
        )
    config = dataclasses.replace(config, strategy=strategy)
    where = f"--devices={asked}" + (f" in each of {cluster.processes} processes" if cluster.processes > 1 else "")
    check_batch(config, count * cluster.processes, where)
    _make_visible(kind, count, gpus)
    return _settle(config, cluster, count, lambda: _strategy(config, cluster.processes))


def _settle(
    config: RunConfig, cluster: Cluster, local_replicas: int, build: Callable[[], tf.distribute.Strategy]
) -> Runtime:
    if config.deterministic:
        global deterministic
        tf.config.experimental.enable_op_determinism()
        deterministic = True
    config = resolved(config, cluster.processes)
    strategy = build()

    def from_leader(array: np.ndarray) -> np.ndarray:
        return ProcessSum(strategy, cluster.processes)(array if cluster.is_leader else np.zeros_like(array))

    try:
        config = agreed(config, cluster, from_leader)
    except tf.errors.OpError as error:
        raise cannot_join(cluster.processes, error) from error
    return Runtime(config, cluster, local_replicas, strategy)


def _strategy(config: RunConfig, processes: int) -> tf.distribute.Strategy:
    """TensorFlow's default one, which does nothing, for a single device."""
    if config.strategy == "one":
        return tf.distribute.get_strategy()
    if config.strategy == "multiworker":
        try:
            # Blocks until all processes are there.
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise cannot_join(processes, error) from error
    devices = config.devices_spec
    return tf.distribute.MirroredStrategy([f"{devices.platform.upper()}:{index}" for index in range(devices.count)])


def _tpu_is_here() -> bool:
    """Without asking the metadata server, which would take minutes where there is none."""
    here = any(Path(path).exists() for path in ("/dev/accel0", "/dev/vfio/0"))
    return here or bool(os.environ.get("TPU_NAME"))


def _prepare_tpu(config: RunConfig) -> Runtime:
    """TPUStrategy over all cores of the TPU that TPU_NAME names, or of this machine.

    TensorFlow's TPUs end with tensorflow-tpu 2.19/2.20 (docs/engines.md); TensorFlow itself has no TPU kernels.
    """
    if config.precision not in ("auto", "float32", "mixed_bfloat16"):
        raise exits.CannotRun(
            f"--precision={config.precision} is not possible: a TPU computes in float32 and bfloat16; give float32 or"
            " mixed_bfloat16."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME") or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise exits.CannotRun(
            f"--strategy=tpu, but TensorFlow {tf.__version__} finds no TPU that it can use here"
            f" ({str(error).splitlines()[0]}); install tensorflow-tpu in place of tensorflow, or use --backend=jax."
        ) from error
    cores = strategy.num_replicas_in_sync
    check_batch(config, cores, f"the {cores} cores of the TPU")
    config = dataclasses.replace(config, strategy="tpu", xla="on")
    return _settle(config, Cluster(), cores, lambda: strategy)


def _make_visible(kind: str, count: int, gpus: list[tf.config.PhysicalDevice]) -> None:
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
        if count > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        return
    if count > len(gpus):
        raise exits.CannotRun(
            f"--devices=gpu:{count}, but TensorFlow sees {counted(len(gpus), 'GPU') if gpus else 'no GPU'} here; install the"
            " gpu extra and a driver, or use --devices=cpu:1."
        )
    tf.config.set_visible_devices(gpus[:count], "GPU")
    for gpu in gpus[:count]:
        tf.config.experimental.set_memory_growth(gpu, True)


def step_memory(config: RunConfig, step: Callable[[], object]) -> StepMemory:
    """What a step needs, as making one shows. The CPU devices of a process share the machine's memory; other devices only
    show whether a step fits."""
    if config.devices_spec.platform == "cpu":
        base = memory.resident()
        available = base + memory.USABLE * memory.free()
        step()
        return StepMemory(memory.peak(), available, base)
    try:
        step()
    except OutOfMemory:
        return StepMemory(math.inf, LIMITLESS)
    return StepMemory(0, LIMITLESS)


def describe(runtime: Runtime) -> str:
    """The devices for a person: a GPU by its name, a CPU by its cores."""
    if runtime.config.strategy == "tpu":
        return f"{runtime.local_replicas} TPU cores"
    devices = runtime.config.devices_spec
    if devices.platform == "gpu":
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        here = f"{devices.count} GPU ({details.get('device_name', 'unknown')})"
    else:
        here = f"{devices.count} CPU ({cores()} cores)"
    return here if runtime.cluster.processes == 1 else f"{runtime.cluster.processes} processes, each {here}"
