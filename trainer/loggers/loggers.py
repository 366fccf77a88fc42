"""All services of --log_to, as one listener of the records that a run writes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from convoy import exits
from convoy.trainer.loggers.base import RunFacts
from convoy.trainer.loggers.sender import Say, Sender

FINISH_SECONDS = 30.0  # that the end of a run waits for what is still on its way
LEAVE_SECONDS = 3.0  # a run that was asked to leave has little time; what is missing is sent when it goes on


class Loggers:
    """Use as a context around an attempt, in the leading process; without names it does nothing.

    Args:
      names: rows of LOGGERS.
      say: prints a line for a person.
    """

    def __init__(self, names: Sequence[str] = (), say: Say = print):
        self._say, self._senders = say, [Sender(name, say) for name in names]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._senders)

    def begin(self, facts: RunFacts) -> None:
        """Opens the record of the run at each service, beside what the run does now."""
        for sender in self._senders:
            sender.begin(facts)

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl, which is new or was there when the attempt began."""
        for sender in self._senders:
            sender.record(record)

    def finish(self, result: Mapping[str, Any]) -> None:
        """The run is over: brings what result.json will say, and waits up to FINISH_SECONDS."""
        for sender in self._senders:
            sender.finish(result["step"], main_figures(result))
        for name in self._close(exits.OK, FINISH_SECONDS):
            self._say(
                f"  Note: --log_to={name} did not get everything within {FINISH_SECONDS:.0f} s; metrics.jsonl and result.json"
                " have it."
            )

    def _close(self, code: int, seconds: float) -> list[str]:
        """The services that are not done after so many seconds, all together."""
        until = time.monotonic() + seconds
        for sender in self._senders:
            sender.close(code)
        return [sender.name for sender in self._senders if not sender.wait(max(until - time.monotonic(), 0.0))]

    def __enter__(self) -> Loggers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._close(error.code if isinstance(error, exits.ConvoyError) else exits.BUG, LEAVE_SECONDS)


def main_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Of result.json what a table of runs compares; keys begin with result/."""
    measured, best, train = result["eval"], result["best"] or {}, result["train"]
    figures = {name: measured.get(name) for name in ("accuracy", "loss", "top5_accuracy", "mean_recall")}
    figures |= {"best_step": best.get("step"), "best_accuracy": best.get("accuracy")}
    figures |= {"images_per_second": train.get("images_per_second"), "wall_seconds": result["wall_seconds"]}
    return {f"result/{name}": float(value) for name, value in figures.items() if value is not None}
