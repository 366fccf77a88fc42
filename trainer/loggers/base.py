"""What a service of --log_to is told, and what it has to do. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

PROJECT = "convoy"  # unless the service's own environment variable names another


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A run that begins, or goes on.

    Attributes:
      run_id: 32 hexadecimal digits, the same in all attempts and in no other run; the service's record is found by it.
      name: the last part of the run directory.
      flags: name -> value, all of them.
      links: report, predictions, checkpoints -> their path or URL.
      evaluates: whether a record of training is followed by one of evaluation at the same step.
    """

    run_id: str
    name: str
    flags: Mapping[str, Any]
    links: Mapping[str, str]
    evaluates: bool


class Logger(Protocol):
    """A run's record at a service. Called on a thread of its own; whatever it raises ends the logging there, and no run.

    Attributes:
      place: where a person finds the record.
    """

    place: str

    def has(self, name: str, step: int) -> bool:
        """Whether an earlier attempt brought the figure of this step, or whether the service takes none of it any more."""

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Adds figures of a step that `has` does not know. Steps rise.

        Args:
          seconds: when they were measured, since 1970.
          values: train/loss -> value, and so on.
        """

    def finish(self, step: int, figures: Mapping[str, float]) -> None:
        """Adds the result of a finished run, result/accuracy and so on; the same again changes nothing."""

    def close(self, code: int) -> None:
        """The attempt ends with this exit code; returns when the service has all of it."""
