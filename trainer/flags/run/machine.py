"""The machine: devices, processes and what makes a run repeatable."""

from __future__ import annotations

import dataclasses
import functools

from convoy.bounds import real, whole
from convoy.options import option
from convoy.trainer.flags.choices import BACKENDS, GRADIENT_DTYPES, KERNELS, ONEDNN, STRATEGIES
from convoy.trainer.flags.choices import XLA as XLAS
from convoy.trainer.flags.specs import DevicesSpec

AUTO_BUCKETS = 0

_MACHINE = "Machine"


@dataclasses.dataclass(frozen=True)
class MachineFlags:
    """Devices, processes, and what makes a run repeatable."""

    seed: int = option(
        0,
        "decides the order, the augmentation and the initial weights.",
        group=_MACHINE,
        within=whole(-(2**31), 2**31 - 1),
    )
    deterministic: bool = option(
        False,
        "the same bits every time on the same machine, at some cost in speed; input wait is not measured then.",
        group=_MACHINE,
    )
    devices: str = option(
        "auto",
        "of each process: cpu:N (N logical devices that share the cores: for tests), gpu:N, or with --backend=jax tpu:N;"
        " auto: all accelerators, else cpu:1.",
        group=_MACHINE,
        may_change=True,
    )
    backend: str = option(
        "tensorflow",
        lambda: f"{BACKENDS.help()}; a run may change it when it continues.",
        group=_MACHINE,
        choices=BACKENDS,
        may_change=True,
    )
    strategy: str = option(
        "auto",
        lambda: f"how a step is spread over devices: {STRATEGIES.help()}.",
        group=_MACHINE,
        choices=STRATEGIES,
        may_change=True,
    )
    xla: str = option(
        "auto",
        lambda: f"whether XLA compiles a step of TensorFlow: {XLAS.help()}. JAX always compiles.",
        group=_MACHINE,
        choices=XLAS,
        may_change=True,
    )
    kernels: str = option(
        "auto",
        lambda: (
            f"which generation of Convoy's own ways to compute layers: {KERNELS.help()}. The numbers differ by rounding."
        ),
        group=_MACHINE,
        choices=KERNELS,
        may_change=True,
    )
    onednn: str = option(
        "auto",
        lambda: (
            f"whether TensorFlow computes with oneDNN on a CPU: {ONEDNN.help()}. TF_ENABLE_ONEDNN_OPTS in the environment"
            " decides where it is set (docs/performance.md)."
        ),
        group=_MACHINE,
        choices=ONEDNN,
        may_change=True,
    )
    gradient_buckets: int = option(
        AUTO_BUCKETS,
        "in how many parts gradients are summed over devices, each as soon as the backward pass has it; auto: 8 where several"
        " processes share the run, else 1.",
        group=_MACHINE,
        within=whole(1, 1000),
        words={"auto": AUTO_BUCKETS},
        may_change=True,
    )
    gradient_dtype: str = option(
        "full",
        lambda: f"of gradients on their way between devices: {GRADIENT_DTYPES.help()}.",
        group=_MACHINE,
        choices=GRADIENT_DTYPES,
    )
    compile_cache: str = option(
        "auto",
        "where programs that JAX has compiled are kept for the next start: auto (convoy/compiled in your cache folder, at most"
        " 1 GiB), off, a folder that you alone may write to, or gs://BUCKET/PATH with --trust_compile_cache."
        " JAX_COMPILATION_CACHE_DIR in the environment decides where it is set (docs/performance.md).",
        group=_MACHINE,
        may_change=True,
    )
    trust_compile_cache: bool = option(
        False,
        "run the compiled programs in a --compile_cache in a bucket: whoever may write there can run code as you"
        " (docs/security.md).",
        group=_MACHINE,
        may_change=True,
    )
    hang_timeout: float | None = option(
        None,
        "seconds without a finished loop or another heartbeat after which a process prints the stacks of its threads and"
        " ends with 42 (0: never; default: 120 where several processes share the run, else 0).",
        group=_MACHINE,
        within=real(0, 1e9),
        may_change=True,
    )

    @functools.cached_property
    def devices_spec(self) -> DevicesSpec:
        return DevicesSpec.parse(self.devices)

    @property
    def generation(self) -> int:
        """--kernels, once it is resolved."""
        return int(self.kernels)

    def hang_seconds(self, processes: int) -> float:
        """--hang_timeout in seconds; 0, for ever, is the default of a run that shares its steps with no other process."""
        return self.hang_timeout if self.hang_timeout is not None else 120.0 if processes > 1 else 0.0
