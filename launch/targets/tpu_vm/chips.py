"""The TPUs that the Cloud TPU API starts.

Google froze that API in 2026: TPU7x and all that follow start in Compute Engine and Google Kubernetes Engine alone
(docs.cloud.google.com/tpu/docs/tpus-in-compute-engine).
"""

from __future__ import annotations

from convoy import exits
from convoy.launch.job import JobSpec

# Images without TensorFlow and JAX, since the bundle has its own environment.
RUNTIMES = {"v3": "tpu-ubuntu2204-base", "v4": "tpu-ubuntu2204-base", "v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5",
            "v6e": "v2-alpha-tpuv6e"}  # fmt: skip
# Where a topology is asked for.
TYPES = {"v3": "V3", "v4": "V4", "v5e": "V5LITE_POD", "v5p": "V5P", "v6e": "V6E"}


def check(spec: JobSpec) -> None:
    """CannotRun for an accelerator that the API never starts."""
    accelerator, chip = spec.options.accelerator, spec.accelerator.chip
    if chip is None or spec.accelerator.kind != "tpu":
        raise exits.CannotRun(f"--target=tpu-vm, but --accelerator={accelerator} is no TPU; give v5e-8 for example.")
    if chip.name not in RUNTIMES:
        raise exits.CannotRun(
            f"--target=tpu-vm, but --accelerator={accelerator} is newer than the Cloud TPU API, which Google froze: it never"
            f" starts there. Give --target=k8s, or start it as an instance group of Compute Engine, with `convoy train` on each"
            f" machine; this API starts {', '.join(RUNTIMES)}."
        )
