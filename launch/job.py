"""What is submitted: one job, pure data. Rendering it for a target is a pure function of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from convoy import options
from convoy.accelerators import Accelerator
from convoy.launch.flags import JobOptions
from convoy.trainer.config import RunConfig


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """A job: its options, the accelerator they name, and the run's configuration. Two equal specs are one job.

    Attributes:
      options: as given; `workers` is resolved.
      accelerator: of each worker, or the slice that all of them share.
      run: the run; validated here, so that a typo fails now and not in a pod.
    """

    options: JobOptions
    accelerator: Accelerator
    run: RunConfig

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def workers(self) -> int:
        return self.options.workers

    @property
    def train_flags(self) -> list[str]:
        """The flags of `convoy train`, flagfiles inlined; flags with their default are left out."""
        default = RunConfig().to_dict()
        return options.to_flags((name, value) for name, value in self.run.to_dict().items() if value != default[name])

    @property
    def digest(self) -> str:
        """Identifies the job: 16 hexadecimal digits of the SHA-256 of all of it but its price."""
        job = dataclasses.replace(self, options=dataclasses.replace(self.options, price_per_hour=0.0))
        return hashlib.sha256(json.dumps(job.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; convoy.launch.build.from_dict is the inverse."""
        return {"options": dataclasses.asdict(self.options), "run": self.run.to_dict()}
