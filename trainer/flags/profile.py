"""--profile, parsed."""

from __future__ import annotations

import dataclasses
import re

from convoy import options
from convoy.trainer.flags.durations import MAX_STEPS

_FORM = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


@dataclasses.dataclass(frozen=True)
class ProfileSpec:
    """The steps that are profiled: `first` and those after it, before `end`; none where both are 0."""

    first: int
    end: int

    @classmethod
    def parse(cls, text: str) -> ProfileSpec:
        if not text:
            return cls(0, 0)
        match = _FORM.fullmatch(text)
        first, end = (int(match[1]), int(match[2])) if match else (0, 0)
        if not first < end <= MAX_STEPS:
            raise options.impossible("profile", text, "give FIRST:END in steps, for example 100:110 for ten of them")
        return cls(first, end)

    def __bool__(self) -> bool:
        return self.end > 0

    def check(self, total: int) -> None:
        """Raises exits.CannotRun for steps that a run of `total` steps does not have."""
        if self.end > total:
            remedy = f"the run has {total:,} steps; give FIRST:END with an END up to that"
            raise options.impossible("profile", f"{self.first}:{self.end}", remedy)
