"""What XLA leaves of --gradient_buckets: the collectives of a training step on JAX, compiled for four devices.

    pip install --no-deps --target=FOLDER libtpu==0.0.42.1 jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2
    PYTHONPATH=FOLDER python benchmarks/collectives.py

No TPU and no GPU is needed: the step is compiled ahead of time, for a TPU v5e 2x2 and for four H100. How long it takes there is
not known. The networks have no BatchNormalization, so that every collective carries gradients. Writes results/collectives.csv.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
from typing import TYPE_CHECKING, Any

from rows import HERE, describe, replace

from convoy import entry
from convoy.trainer import engines

if TYPE_CHECKING:
    from convoy.trainer.engines.jax.programs import Programs
    from convoy.trainer.engines.runtime import Runtime

DEVICES, BUCKETS, CLASSES = 4, (1, 8), 10
NETWORKS = ("article_cnn", "vit_s16")
IMAGE = (32, 32, 3)
KINDS = {"cpu": "CPU", "tpu": "TPU v5e", "gpu": "H100"}
# What XLA for GPUs would read from a device: an H100 SXM, by its data sheet and CUDA's limits.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } device_description_str: "NVIDIA H100 80GB HBM3"
"""
# A collective of an optimized program: what it sums, a shape or several, and whether it is asynchronous.
_SUM = re.compile(r"= (\(.*?\)|\S+) all-reduce(-start)?\(")


def devices(kind: str, runtime: Runtime) -> Any:
    """Those that a program is compiled for, here or not."""
    from jax.experimental import topologies

    if kind == "tpu":
        return topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
    if kind == "gpu":
        topology = {"topology": f"1x1x{DEVICES}", "target_config": H100}
        return topologies.get_topology_desc("", platform="cuda", **topology).devices
    return runtime.strategy_or_mesh.devices.flatten()


def programs(runtime: Runtime, kind: str, model: str, buckets: int) -> Programs:
    import jax
    import numpy as np

    from convoy.trainer.engines.jax.devices import AXIS
    from convoy.trainer.engines.jax.programs import Programs
    from convoy.trainer.engines.runtime import set_up_keras

    config = dataclasses.replace(
        runtime.config, devices=f"{kind}:{DEVICES}", model=model, gradient_buckets=buckets, batch_size=64
    )
    mesh = jax.sharding.Mesh(np.array(devices(kind, runtime)), (AXIS,))
    set_up_keras(config)
    return Programs(dataclasses.replace(runtime, config=config, strategy_or_mesh=mesh), IMAGE, np.full(CLASSES, 100))


def sums(program: str) -> list[tuple[int, bool]]:
    """(bytes, whether asynchronous) of each collective of an optimized program, in the order in which they are made."""
    return [
        (
            sum(4 * math.prod(map(int, sizes.split(","))) for sizes in re.findall(r"f32\[([\d,]+)\]", shapes)),
            bool(start),
        )
        for shapes, start in _SUM.findall(program)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=[*KINDS], help=f"of devices: {', '.join(KINDS)}; default: all"
    )
    kinds = parser.parse_args().kinds
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    package = engines.choose("jax")
    from convoy.trainer.config import RunConfig

    runtime = package.prepare(RunConfig(backend="jax", devices=f"cpu:{DEVICES}", batch_size=64))
    for kind in kinds:
        for model in NETWORKS:
            for buckets in BUCKETS:
                step = programs(runtime, kind, model, buckets)
                lowered = step.lower()
                found = sums(lowered.compile(compiler_options=step.compiler_options or None).as_text())
                row = {
                    **describe(),
                    "devices": f"{DEVICES} {KINDS[kind]}",
                    "network": model,
                    "buckets": buckets,
                    "before_xla": lowered.as_text().count("stablehlo.all_reduce"),
                    "all_reduces": len(found),
                    "asynchronous": sum(start for _, start in found),
                    "mib": " ".join(f"{size / 2**20:.3g}" for size, _ in found),
                }
                print(*row.values(), flush=True)
                replace(HERE / "results" / "collectives.csv", row, "devices", "network", "buckets")


if __name__ == "__main__":
    entry.call(main)
