"""What ends a run before --duration does: --patience and --max_minutes. Imports nothing heavy."""

from __future__ import annotations

import math
from typing import Any

from convoy.bounds import whole
from convoy.counting import counted
from convoy.shapes import Shape
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.durations import MAX_STEPS
from convoy.trainer.loop.progress import Progress

# Of result.json's `stopped_early`.
SHAPE: Shape = {
    "because": frozenset(("patience", "max_minutes")),
    "step": whole(0, MAX_STEPS),
    "of": whole(0, MAX_STEPS),
    "evaluations_since_best": whole(0, MAX_STEPS),
    "minutes": float,
}


def out_of_patience(config: RunConfig, progress: Progress) -> bool:
    """Whether as many evaluations as --patience says, the last one of this step, were no better than the best."""
    return progress.evaluated == progress.step and 0 < config.patience <= progress.evaluations_since_best


def out_of_time(config: RunConfig, seconds: float) -> bool:
    """Whether --max_minutes are over after so many seconds of training."""
    return 0 < 60 * config.max_minutes <= seconds


def go_on(progress: Progress, total: int) -> None:
    """Prepares the progress of a run that --patience may have ended for a plan of `total` steps.

    A person who asks for more steps than the plan had that was cut short gets as many more evaluations as --patience says.
    """
    if 0 < progress.total_cut_short < total:
        progress.evaluations_since_best = 0
    progress.total_cut_short = 0


def describe(config: RunConfig, total: int, progress: Progress) -> dict[str, Any] | None:
    """result.json's `stopped_early`; None for a run that made all `total` steps of its plan."""
    if progress.step >= total:
        return None
    return {
        "because": "patience" if out_of_patience(config, progress) else "max_minutes",
        "step": progress.step,
        "of": total,
        "evaluations_since_best": progress.evaluations_since_best,
        "minutes": progress.wall_seconds / 60,
    }


def is_over(stopped: dict[str, Any], config: RunConfig, total: int) -> bool:
    """Whether a run that stopped early, as `describe` says, has nothing left to do with these flags and so many steps."""
    if stopped["because"] == "patience":
        return total <= stopped["of"] and 0 < config.patience <= stopped["evaluations_since_best"]
    return out_of_time(config, 60 * stopped["minutes"])


def sentence(result: dict[str, Any], config: RunConfig) -> str:
    """Why a run stopped early, for a person; empty for one that did not."""
    stopped = result.get("stopped_early")
    if not stopped:
        return ""
    where = f"Stopped early, at step {stopped['step']:,} of {stopped['of']:,}"
    best, count = result.get("best"), stopped["evaluations_since_best"]
    if stopped["because"] == "max_minutes" or not best:
        return f"{where}: --max_minutes={config.max_minutes:g} are over."
    were = "was" if count == 1 else "were"
    return (
        f"{where}: {counted(count, 'evaluation')} in a row (--patience={config.patience}) {were} no better than that of step"
        f" {best['step']:,}, {best['accuracy']:.2%}."
    )


def remedy(result: dict[str, Any]) -> str:
    """What continues a run that stopped early; empty for one that did not."""
    stopped = result.get("stopped_early")
    if not stopped:
        return ""
    flags = (
        "a higher --patience or a longer --duration" if stopped["because"] == "patience" else "a larger --max_minutes"
    )
    return f"it stopped early, and {flags} continues it"


def more(result: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The flag that continues a finished run, with twice the value that ended it."""
    stopped = result.get("stopped_early")
    if not stopped:
        return {"duration": config.duration_spec.doubled()}
    if stopped["because"] == "patience":
        return {"patience": 2 * max(config.patience, stopped["evaluations_since_best"])}
    return {"max_minutes": 2.0 * math.ceil(max(config.max_minutes, stopped["minutes"]))}
