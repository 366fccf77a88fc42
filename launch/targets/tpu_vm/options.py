"""The flags of jobs on Cloud TPU VMs."""

from __future__ import annotations

import dataclasses

from convoy.launch.flags import WHERE
from convoy.options import option

_TPU = "Cloud TPU"


@dataclasses.dataclass(frozen=True)
class TpuVmPlace:
    """A zone of a project."""

    project: str = option("", "tpu-vm: the Google Cloud project.", group=WHERE)
    zone: str = option("", "tpu-vm: the zone, europe-west4-b for example.", group=WHERE)


@dataclasses.dataclass(frozen=True)
class TpuVmOptions:
    """What is asked of Cloud TPU beyond what every job has."""

    runtime_version: str = option("", "the machines' image (default: by accelerator and --backend).", group=_TPU)
    bucket: str = option("", "gs://BUCKET/PATH for code and status (default: beside the run directory).", group=_TPU)
