"""--devices, --strategy and --precision for JAX."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import tensorflow as tf
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from convoy import exits
from convoy.counting import counted
from convoy.data.parallel import cores
from convoy.trainer.config import RunConfig
from convoy.trainer.engines import memory, patches
from convoy.trainer.engines.jax import compile_cache, gloo
from convoy.trainer.engines.lost import cannot_join
from convoy.trainer.engines.memory import StepMemory
from convoy.trainer.engines.runtime import Runtime, agreed, check_batch, resolved, topology
from convoy.trainer.processes import cluster as clusters
from convoy.trainer.processes.cluster import Cluster

AXIS = "replica"  # of the mesh: one device, one replica
REPLICATED, SHARDED = PartitionSpec(), PartitionSpec(AXIS)
CHUNK = PartitionSpec(None, AXIS)  # batches that travel together
_FOREVER = 24 * 3600  # seconds; the thin parent decides when a peer is lost (--hang_timeout)


def prepare(config: RunConfig, ignore_cluster: bool = False) -> Runtime:
    """Joins the other processes, makes the asked devices visible, and resolves what was `auto`.

    Before anything else touches JAX: its first use fixes what is visible.

    Args:
      config: the run.
      ignore_cluster: whatever processes the environment names, this one works for itself.
    """
    cluster = Cluster() if ignore_cluster else clusters.from_environment("jax")
    # The pipeline is TensorFlow's, on the host; it would take all the memory of a GPU that it saw.
    tf.config.set_visible_devices([], "GPU")
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    jax.config.update("jax_enable_x64", config.precision == "float64")
    patches.compute_in_float64(config.precision == "float64")
    asked = config.devices_spec
    if asked.platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", asked.count)
    elif asked.platform == "gpu":
        jax.config.update("jax_cuda_visible_devices", ",".join(map(str, range(asked.count))))
    if cluster.processes > 1:
        seconds = config.hang_seconds(cluster.processes)
        try:
            # Blocks until all processes are there.
            jax.distributed.initialize(
                cluster.coordinator,
                cluster.processes,
                cluster.index,
                coordinator_bind_address=cluster.bind or None,
                initialization_timeout=_FOREVER,
                heartbeat_timeout_seconds=max(int(seconds), 10) if seconds else _FOREVER,
            )
            gloo.advertise(cluster, _FOREVER)
        except jax.errors.JaxRuntimeError as error:
            raise cannot_join(cluster.processes, error) from error
    try:
        here = jax.local_devices()
    except RuntimeError as error:
        raise exits.CannotRun(
            f"--devices={config.devices}: JAX finds no such device here ({str(error).splitlines()[0]}); install the extra"
            " jax-gpu or tpu, and its driver, or use --devices=cpu:1."
        ) from error
    if asked.is_auto and config.strategy == "one":
        here = here[:1]
    present = f"{here[0].platform}:{len(here)}"
    if not asked.is_auto and present != config.devices:
        raise exits.CannotRun(
            f"--devices={config.devices}, but JAX finds {present} here; give that, or install the other's extra and driver."
        )
    if config.precision == "float64" and here[0].platform == "tpu":
        raise exits.CannotRun("--precision=float64 is not possible on a TPU; give float32 or mixed_bfloat16.")
    config = dataclasses.replace(config, devices=present, xla="on")
    config = dataclasses.replace(config, strategy=topology(config, cluster, len(here)))
    devices = jax.devices() if cluster.processes > 1 else here
    where = f"--devices={present}" + (f" in each of {cluster.processes} processes" if cluster.processes > 1 else "")
    if len(devices) != len(here) * cluster.processes:
        raise exits.CannotRun(
            f"the processes have {counted(len(devices), 'device')} together, which is not {where}; give all the same."
        )
    check_batch(config, len(devices), where)
    # GPUs of several processes share the search for kernels: one that finds its program kept would leave the others waiting.
    share_search = cluster.processes > 1 and here[0].platform == "gpu"
    kept = "off" if config.compile_cache == "auto" and share_search else config.compile_cache
    compile_cache.use(kept, config.trust_compile_cache)
    try:
        config = agreed(resolved(config, cluster.processes), cluster, multihost_utils.broadcast_one_to_all)
    except jax.errors.JaxRuntimeError as error:
        raise cannot_join(cluster.processes, error) from error
    # In the order of processes, which is the order of their shares of a batch.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Runtime(config, cluster, len(here), jax.sharding.Mesh(np.array(devices), (AXIS,)))


def step_memory(usage: jax.stages.CompiledMemoryStats | None, runtime: Runtime) -> StepMemory:
    """What a compiled program needs on a device, and what there is. The CPU devices of a process share the machine's memory.

    Raises:
      exits.CannotRun: JAX does not know one of the two here.
    """
    device = runtime.strategy_or_mesh.local_devices[0]
    on_cpu = device.platform == "cpu"
    limit = memory.free() if on_cpu else (device.memory_stats() or {}).get("bytes_limit")
    if usage is None or limit is None:
        raise exits.CannotRun(
            f"--accumulate=auto: JAX does not say how much memory a program needs on {device.device_kind}, or how much there"
            " is; give a number."
        )
    needed = usage.argument_size_in_bytes + usage.output_size_in_bytes - usage.alias_size_in_bytes
    needed += usage.temp_size_in_bytes + usage.generated_code_size_in_bytes
    return StepMemory(needed * (runtime.local_replicas if on_cpu else 1), memory.USABLE * limit)


def name(runtime: Runtime) -> str:
    """One of the devices, as JAX names it; "" of a CPU."""
    device = runtime.strategy_or_mesh.local_devices[0]
    return "" if device.platform == "cpu" else device.device_kind


def describe(runtime: Runtime) -> str:
    """The devices for a person."""
    devices = runtime.config.devices_spec
    device = runtime.strategy_or_mesh.local_devices[0]
    on_cpu = devices.platform == "cpu"
    here = f"{devices.count} {f'CPU ({cores()} cores)' if on_cpu else device.device_kind}"
    return here if runtime.cluster.processes == 1 else f"{runtime.cluster.processes} processes, each {here}"
