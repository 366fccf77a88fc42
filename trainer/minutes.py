"""--duration=30min: how many steps that is, as measured on the first steps of the run. The number is written to config.flags.

It is measured before the run begins, so that --schedule and --unfreeze know the length of the run from the first step on, and
so that a run that is continued, here or elsewhere, ends at the same step. The steps that are timed change nothing: the engine
is built again after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from convoy import heartbeat
from convoy.data.sources.examples import Examples
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.engines.steps_per_loop import StepsPerLoop
from convoy.trainer.flags.durations import MAX_STEPS, Duration
from convoy.trainer.processes import consensus

UNMEASURED = f"{MAX_STEPS}st"  # stands for a duration until it is measured
_SECONDS, _SHARE = 5.0, 0.1  # of measuring: so many, or this share of a shorter duration
_LOOPS = 3  # of which the first one still prepares what later ones use


class StepTime(NamedTuple):
    """How long steps took."""

    steps: int
    seconds: float

    def steps_in(self, duration: Duration) -> int:
        """The steps of a duration in minutes, one at least."""
        steps = round(60 * float(duration.amount) * self.steps / max(self.seconds, 1e-9))
        return min(max(steps, 1), MAX_STEPS)


def measure(duration: Duration, engine: Engine, train: Examples) -> StepTime:
    """Times steps of the stage that trains the most, with their input. All processes call it, and the leader's time counts.

    The engine has another state afterwards.
    """
    wanted = min(_SECONDS, 60 * float(duration.amount) * _SHARE)
    engine.enter_stage(MAX_STEPS - 1)
    engine.feed(train, 0)
    engine.compile()
    pace, loops, steps, seconds = StepsPerLoop(), 0, 0, 0.0

    def next_length() -> int:
        return 0 if loops >= _LOOPS and seconds >= wanted else pace.steps(MAX_STEPS)

    while length := consensus.leader_decides(engine, next_length):
        begun = time.perf_counter()
        result = engine.train(length)
        spent = time.perf_counter() - begun
        heartbeat.beat()
        loops += 1
        pace.record(result.steps, spent)
        if loops > 1 or not result.finite:
            steps, seconds = steps + result.steps, seconds + spent
        if not result.finite:  # the run itself will say so, in its first steps
            break
    return StepTime(max(steps, 1), seconds)


def settle(duration: Duration, engine: Engine, train: Examples, known: Callable[[], str]) -> tuple[str, list[str]]:
    """A duration of minutes in steps, as --duration has it, and the notes of an engine that is built with it.

    Args:
      duration: as it was asked for.
      engine: of the run but for its duration; it has another state afterwards.
      train: the examples that are trained on.
      known: in the leading process, what was measured when the run was begun, "" for a new run. Its errors end all processes.
    """
    if steps := consensus.leader_decides(engine, known):
        return steps, engine.notes
    measured = measure(duration, engine, train)
    steps = f"{measured.steps_in(duration)}st"
    each = 1000 * measured.seconds / measured.steps
    shown = f"{each:,.0f}" if each >= 10 else f"{each:.2g}"
    note = f"--duration={float(duration.amount):g}min is {steps}, at {shown} ms a step as measured on the first ones."
    return steps, [*engine.notes, note]
