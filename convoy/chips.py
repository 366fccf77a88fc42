"""Accelerators as data: chips, the machines that carry them, what an hour costs.

A figure is here only if it was read at its source: machines, shapes of slices, memory that a label names and list prices
in GoogleCloudPlatform/cluster-autoscaler of 2026-08, spot prices of TPUs in skypilot-org/skypilot-catalog; memory, peaks and
links of TPUs in docs.cloud.google.com/tpu/docs/{v3,v4,v5e,v5p,v6e,tpu7x} of 2026-11; JAX's names in JAX 0.10's tpu_info.py.
Nothing is filled in from memory: None is unknown, and printed as such. No peak of a GPU has been confirmed yet: MFU is
unknown with them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping

LIST_PRICE = "list price of 2026-08, us-central1, GoogleCloudPlatform/cluster-autoscaler"
SPOT_PRICE = "spot price of 2026-08, us-central1, GoogleCloudPlatform/cluster-autoscaler"
TPU_FIGURES = "HBM, TFLOP/s and GB/s of TPUs of 2026-11, docs.cloud.google.com/tpu/docs"
TPU_SPOT_PRICE = "spot price of 2026-11, us-central1, skypilot-org/skypilot-catalog"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine type. Of several with equally many chips, the first is the default."""

    type: str  # "" where GPUs are attached to a machine of any type
    chips: int
    vcpus: int | None = None
    memory_gib: int | None = None
    price: float | None = None  # dollars an hour, chips included
    spot: float | None = None
    gke_label: str = ""  # where it differs from the chip's
    topology: str = ""  # TPU: the slice that it is alone; "" if it is always a part of a larger one
    joins: bool = False  # TPU: several of them form a slice


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip."""

    name: str
    kind: str  # "gpu" | "tpu"
    gke_label: str  # of cloud.google.com/gke-accelerator or gke-tpu-accelerator
    machines: tuple[Machine, ...]
    aliases: tuple[str, ...] = ()
    google_name: str = ""  # TPU: the prefix of accelerator types of Cloud TPU
    cores: int = 1  # TPU: how much Google's names count for each chip: its TensorCores, or 1
    topologies: tuple[str, ...] = ()  # TPU: by size; the first of each size is Google's default
    hbm_gb: int | None = None  # as in its source: GB or GiB
    # Dense, a second, by precision.
    peak_flops: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    link_gb_per_s: float | None = None  # both ways together
    jax_names: tuple[str, ...] = ()  # of JAX's devices
    jax_devices: int = 1  # that JAX sees in each chip


def size(topology: str) -> int:
    """Chips of a topology: 4x4 has 16."""
    return math.prod(int(side) for side in topology.split("x"))


def _cubes(sides: Iterable[int], limit: int) -> tuple[str, ...]:
    """All topologies of three sides in growing order with at limit `limit` chips; of equal size the limit compact first."""
    shapes = [shape for shape in itertools.combinations_with_replacement(sides, 3) if math.prod(shape) <= limit]
    shapes.sort(key=lambda shape: (math.prod(shape), sum(shape)))
    return tuple("x".join(map(str, shape)) for shape in shapes)


_SQUARES = ("4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
# At limit 16x16x24, the limit of v5p. No limit of v4 was found, so it has the same; Cloud TPU refuses what it does not have.
_LARGE = tuple(shape for shape in _cubes(range(4, 25, 4), 6144) if int(shape.split("x")[1]) <= 16)

CHIPS = (
    Chip("t4", "gpu", "nvidia-tesla-t4", (Machine("", 1), Machine("", 2), Machine("", 4))),
    Chip("v100", "gpu", "nvidia-tesla-v100", tuple(Machine("", count) for count in (1, 2, 4, 8))),
    Chip(
        "l4",
        "gpu",
        "nvidia-l4",
        (
            Machine("g2-standard-4", 1, 4, 16, 0.76, 0.23),
            Machine("g2-standard-8", 1, 8, 32, 0.91, 0.27),
            Machine("g2-standard-12", 1, 12, 48, 1.06, 0.32),
            Machine("g2-standard-16", 1, 16, 64, 1.20, 0.36),
            Machine("g2-standard-24", 2, 24, 96, 2.11, 0.63),
            Machine("g2-standard-48", 4, 48, 192, 4.23, 1.27),
            Machine("g2-standard-96", 8, 96, 384, 8.46, 2.54),
        ),
    ),
    Chip(
        "a100",
        "gpu",
        "nvidia-tesla-a100",
        (
            Machine("a2-highgpu-1g", 1, 12, 85, 3.67),
            Machine("a2-highgpu-2g", 2, 24, 170, 7.35),
            Machine("a2-highgpu-4g", 4, 48, 340, 14.69),
            Machine("a2-highgpu-8g", 8, 96, 680, 29.39),
        ),
        aliases=("a100-40gb",),
    ),
    Chip(
        "a100-80gb",
        "gpu",
        "nvidia-a100-80gb",
        (
            Machine("a2-ultragpu-1g", 1, 12, 170, 5.07, 1.60),
            Machine("a2-ultragpu-2g", 2, 24, 340, 10.14, 3.20),
            Machine("a2-ultragpu-4g", 4, 48, 680, 20.28, 6.40),
            Machine("a2-ultragpu-8g", 8, 96, 1360, 40.55, 12.80),
        ),
        hbm_gb=80,
    ),
    Chip(
        "h100",
        "gpu",
        "nvidia-h100-80gb",
        (
            Machine("a3-highgpu-1g", 1, 26, 234, 10.62, 4.46),
            Machine("a3-highgpu-2g", 2, 52, 468, 21.24, 8.92),
            Machine("a3-highgpu-4g", 4, 104, 936, 42.47, 17.84),
            Machine("a3-highgpu-8g", 8, 208, 1872, 84.94, 35.67),
        ),
        aliases=("h100-80gb",),
        hbm_gb=80,
    ),
    Chip(
        "h100-mega",
        "gpu",
        "nvidia-h100-mega-80gb",
        (Machine("a3-megagpu-8g", 8, 208, 1872, 93.40, 65.39),),
        aliases=("h100-mega-80gb",),
        hbm_gb=80,
    ),
    # The source has placeholders for the prices of these two, and of tpu7x.
    Chip(
        "h200",
        "gpu",
        "nvidia-h200-141gb",
        (Machine("a3-ultragpu-8g", 8, 224, 2952),),
        aliases=("h200-141gb",),
        hbm_gb=141,
    ),
    Chip("b200", "gpu", "nvidia-b200", (Machine("a4-highgpu-8g", 8, 224, 3968),)),
    Chip(
        "v3",
        "tpu",
        "tpu-v3-slice",
        (
            # No price: the source's is 4.80 where other tables have 8.
            Machine("ct3-hightpu-4t", 4, 96, 340, gke_label="tpu-v3-device", topology="2x2"),
            Machine("ct3p-hightpu-4t", 4, 48, 340, joins=True),
        ),
        google_name="v3",
        cores=2,
        topologies=("2x2", *_SQUARES, "16x32", "32x32", "32x64"),
        hbm_gb=32,
        peak_flops={"bfloat16": 123e12},
        jax_names=("TPU v3",),
        jax_devices=2,
    ),
    Chip(
        "v4",
        "tpu",
        "tpu-v4-podslice",
        (Machine("ct4p-hightpu-4t", 4, 240, 407, 12.88, topology="2x2x1", joins=True),),
        google_name="v4",
        cores=2,
        topologies=(*_SMALL, *_LARGE),
        hbm_gb=32,
        peak_flops={"bfloat16": 275e12},
        jax_names=("TPU v4",),
    ),
    Chip(
        "v5e",
        "tpu",
        "tpu-v5-lite-podslice",
        (
            Machine("ct5lp-hightpu-1t", 1, 24, 48, 1.20, 0.245, topology="1x1"),
            Machine("ct5lp-hightpu-4t", 4, 112, 192, 4.80, 0.98, topology="2x2", joins=True),
            Machine("ct5lp-hightpu-8t", 8, 224, 384, 9.60, 1.96, topology="2x4"),
        ),
        aliases=("v5litepod",),
        google_name="v5litepod",
        topologies=("1x1", "2x2", "2x4", *_SQUARES),
        hbm_gb=16,
        peak_flops={"bfloat16": 197e12},
        jax_names=("TPU v5 lite", "TPU v5e"),
        link_gb_per_s=400,
    ),
    Chip(
        "v5p",
        "tpu",
        "tpu-v5p-slice",
        (Machine("ct5p-hightpu-4t", 4, 208, 448, 16.80, topology="2x2x1", joins=True),),
        google_name="v5p",
        cores=2,
        topologies=(*_SMALL, *_LARGE),
        hbm_gb=95,
        peak_flops={"bfloat16": 459e12},
        jax_names=("TPU v5", "TPU v5p"),
        link_gb_per_s=1200,
    ),
    Chip(
        "v6e",
        "tpu",
        "tpu-v6e-slice",
        (
            Machine("ct6e-standard-1t", 1, 44, 176, 2.70, 0.544, topology="1x1"),
            Machine("ct6e-standard-4t", 4, 180, 720, 10.80, 2.176, topology="2x2", joins=True),
            Machine("ct6e-standard-8t", 8, 180, 1440, 21.60, 4.352, topology="2x4"),
        ),
        google_name="v6e",
        topologies=("1x1", "2x2", "2x4", *_SQUARES),
        hbm_gb=32,
        peak_flops={"bfloat16": 918e12},
        jax_names=("TPU v6 lite", "TPU v6e"),
        link_gb_per_s=800,
    ),
    Chip(
        "v7x",
        "tpu",
        "tpu7x",
        (
            Machine("tpu7x-standard-1t", 1, 56, 248, topology="1x1x1"),
            Machine("tpu7x-standard-4t", 4, 224, 992, topology="2x2x1", joins=True),
            Machine("tpu7x-ultranet-4t", 4, 224, 992, topology="2x2x1", joins=True),
        ),
        aliases=("tpu7x", "7x"),
        google_name="tpu7x",
        cores=2,
        topologies=("1x1x1", *_SMALL, *_cubes(range(4, 61, 4), 144 * 64)),
        hbm_gb=192,
        peak_flops={"bfloat16": 2307e12},
        jax_names=("TPU7x",),
        jax_devices=2,
        link_gb_per_s=1200,
    ),
)


def peak_flops(device: str, dtype: str) -> float | None:
    """A device's dense peak, FLOPs a second, by JAX's name of it; None where that is not known."""
    for chip in CHIPS:
        if device in chip.jax_names and dtype in chip.peak_flops:
            return chip.peak_flops[dtype] / chip.jax_devices
    return None
