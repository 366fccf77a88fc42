"""What is known of accelerators, as data: machines, topologies and list prices. What is None is not known.

Machines, labels and prices are those of GoogleCloudPlatform/cluster-autoscaler at 7d25050 (2026-08-21), which GKE itself uses,
for us-central; prices of preemptible ones are of skypilot-org/skypilot-catalog v8 for us-central1. They leave out disks and
egress.
"""

from __future__ import annotations

import dataclasses

PRICES = "list prices of 2026-08, us-central, without disks and egress"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A virtual machine with some chips. Prices are dollars per hour of all of it."""

    name: str
    chips: int
    vcpus: int | None = None
    memory_gib: int | None = None
    price: float | None = None
    spot_price: float | None = None


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of accelerator.

    Attributes:
      name: short, as people write it.
      kind: gpu or tpu.
      title: for people.
      label: the value of GKE's label cloud.google.com/gke-accelerator or gke-tpu-accelerator.
      machines: that have it.
      hbm_gib: memory of one chip, where its name on GKE tells.
      cores: that Google counts for one chip in names such as v4-32; 1 where names count chips.
      type: what such names begin with, in Cloud TPU's API.
      flat: topologies have two sides, not three.
      largest: chips of the largest slice.
      without: chips of which there is no slice, although other kinds have one.
    """

    name: str
    kind: str
    title: str
    label: str
    machines: tuple[Machine, ...]
    hbm_gib: int | None = None
    cores: int = 1
    type: str = ""
    flat: bool = False
    largest: int = 0
    without: tuple[int, ...] = ()


def _tpu(name: str, title: str, label: str, machines: tuple[Machine, ...], **values: object) -> Chip:
    return Chip(name, "tpu", title, label, machines, **values)  # type: ignore[arg-type]


_V3 = (Machine("ct3-hightpu-4t", 4, 96, 340, 4.8), Machine("ct3p-hightpu-4t", 4, 48, 340, 4.8))
_V5E = (
    Machine("ct5lp-hightpu-1t", 1, 24, 48, 1.2, 0.245),
    Machine("ct5lp-hightpu-4t", 4, 112, 192, 4.8, 0.98),
    Machine("ct5lp-hightpu-8t", 8, 224, 384, 9.6, 1.96),
)
_V6E = (
    Machine("ct6e-standard-1t", 1, 44, 176, 2.7, 0.544),
    Machine("ct6e-standard-4t", 4, 180, 720, 10.8, 2.176),
    Machine("ct6e-standard-8t", 8, 180, 1440, 21.6, 4.352),
)
_V7X = (Machine("tpu7x-standard-1t", 1, 56, 248), Machine("tpu7x-standard-4t", 4, 224, 992))

TPUS = (
    _tpu("v3", "TPU v3", "tpu-v3-slice", _V3, cores=2, type="v3", flat=True, largest=2048, without=(8,)),
    _tpu("v4", "TPU v4", "tpu-v4-podslice", (Machine("ct4p-hightpu-4t", 4, 240, 407, 12.88),), cores=2, type="v4",
         largest=4096),
    _tpu("v5e", "TPU v5e", "tpu-v5-lite-podslice", _V5E, type="v5litepod", flat=True, largest=256),
    _tpu("v5p", "TPU v5p", "tpu-v5p-slice", (Machine("ct5p-hightpu-4t", 4, 208, 448, 16.8, 13.36),), cores=2, type="v5p",
         largest=6144),
    _tpu("v6e", "TPU v6e (Trillium)", "tpu-v6e-slice", _V6E, type="v6e", flat=True, largest=256),
    _tpu("v7x", "TPU v7x (Ironwood)", "tpu7x", _V7X, cores=2, type="tpu7x", largest=9216),
)  # fmt: skip

_L4 = (
    Machine("g2-standard-4", 1, 4, None, 0.76, 0.23),
    Machine("g2-standard-8", 1, 8, None, 0.91),
    Machine("g2-standard-12", 1, 12, None, 1.06),
    Machine("g2-standard-16", 1, 16, None, 1.20),
    Machine("g2-standard-24", 2, 24, None, 2.11),
    Machine("g2-standard-48", 4, 48, None, 4.23, 1.27),
)
_A100 = tuple(
    Machine(f"a2-highgpu-{n}g", n, price=price) for n, price in ((1, 3.67), (2, 7.35), (4, 14.69), (8, 29.39))
)
_A100_80 = tuple(
    Machine(f"a2-ultragpu-{n}g", n, price=price) for n, price in ((1, 5.07), (2, None), (4, None), (8, 40.55))
)
_H100 = tuple(
    Machine(f"a3-highgpu-{n}g", n, price=price) for n, price in ((1, 10.62), (2, 21.24), (4, 42.47), (8, 84.94))
)

GPUS = (
    Chip("t4", "gpu", "NVIDIA T4", "nvidia-tesla-t4", ()),
    Chip("p4", "gpu", "NVIDIA P4", "nvidia-tesla-p4", ()),
    Chip("p100", "gpu", "NVIDIA P100", "nvidia-tesla-p100", ()),
    Chip("v100", "gpu", "NVIDIA V100", "nvidia-tesla-v100", ()),
    Chip("l4", "gpu", "NVIDIA L4", "nvidia-l4", _L4),
    Chip("a100", "gpu", "NVIDIA A100", "nvidia-tesla-a100", _A100),
    Chip("a100-80gb", "gpu", "NVIDIA A100 80 GB", "nvidia-a100-80gb", _A100_80, 80),
    Chip("h100", "gpu", "NVIDIA H100 80 GB", "nvidia-h100-80gb", _H100, 80),
    Chip("h100-mega", "gpu", "NVIDIA H100 80 GB Mega", "nvidia-h100-mega-80gb", (Machine("a3-megagpu-8g", 8, price=93.40),),
         80),
    Chip("h200", "gpu", "NVIDIA H200 141 GB", "nvidia-h200-141gb", (Machine("a3-ultragpu-8g", 8),), 141),
    Chip("b200", "gpu", "NVIDIA B200", "nvidia-b200", (Machine("a4-highgpu-8g", 8),)),
    Chip("rtx-pro-6000", "gpu", "NVIDIA RTX PRO 6000", "nvidia-rtx-pro-6000", ()),
)  # fmt: skip
