"""--accumulate=auto: the fewest microbatches that fit the devices' memory. The number is written to config.flags."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Sequence

from convoy import exits, heartbeat
from convoy.data.sources.examples import Examples
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.memory import StepMemory
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.processes import consensus


class Trials:
    """Engines with different numbers of microbatches, of which one lives at a time: devices have room for one.

    Args:
      config: the run's, with --accumulate=auto.
      train: the examples that are trained on.
      total: steps of the run.
      processes: that share the run.
      build: makes an engine.
    """

    def __init__(
        self, config: RunConfig, train: Examples, total: int, processes: int, build: Callable[[RunConfig], Engine]
    ):
        self._config, self._train, self._total, self._processes, self._build = config, train, total, processes, build
        self._engine: Engine | None = None
        self._parts = 0
        self._touched = False

    def settle(self, begun_with: int) -> tuple[RunConfig, Engine]:
        """The configuration with a number in the place of auto, and the engine of it, as it was built.

        Args:
          begun_with: the number that the run was begun with, in the leading process; 0 for a new run.

        Raises:
          exits.CannotRun: a batch of one example a device does not fit, or several processes would have to try.
        """
        parts = begun_with
        if self._processes > 1:
            engine = self._untouched(1)
            parts = consensus.leader_decides(engine, lambda: begun_with)
            if not parts:
                consensus.final_barrier(engine)
                raise exits.CannotRun(
                    "--accumulate=auto tries steps, which several processes cannot do together; give a number, or begin the"
                    " run in one process, whose config.flags then has it."
                )
        note = []
        if not parts:
            parts, memory = self._choose()
            note.append(f"--accumulate=auto is {parts}{memory}.")
        engine = self._untouched(parts)
        engine.notes.extend(note)
        return dataclasses.replace(self._config, accumulate=parts), engine

    def _choose(self) -> tuple[int, StepMemory]:
        """The fewest parts of equal size whose step fits, as measured."""
        engine = self._untouched(1)
        replicas, where, fails_softly = engine.replicas, engine.description, engine.fails_softly
        del engine
        share, low = self._config.batch_size // replicas, 2 if self._config.noise_scale and replicas == 1 else 1
        candidates = [parts for parts in range(low, share + 1) if share % parts == 0] or [1]
        parts, memory = fewest(candidates, self._measure, fails_softly)
        if not memory.fits:
            raise exits.CannotRun(
                f"--accumulate=auto: on {where} even one example at a time does not fit{memory}; give --remat, a smaller"
                " --image_size or another --model."
            )
        return parts, memory

    def _untouched(self, parts: int) -> Engine:
        """The engine that has so many microbatches, as it was built."""
        if self._engine is None or self._touched or parts != self._parts:
            self._engine = None
            gc.collect()
            self._engine = self._build(dataclasses.replace(self._config, accumulate=parts))
            self._parts, self._touched = parts, False
        return self._engine

    def _measure(self, parts: int) -> StepMemory:
        with heartbeat.beating():
            engine = self._untouched(parts)
            engine.enter_stage(self._total - 1)  # in which the most is trained, with the largest batch
            engine.feed(self._train, 0, cached=1)
            self._touched = engine.tries_steps
            return engine.step_memory()


def fewest(
    candidates: Sequence[int], measure: Callable[[int], StepMemory], fails_softly: bool
) -> tuple[int, StepMemory]:
    """The fewest of `candidates` that were measured to fit, and their memory; the most of them, if none fits.

    Args:
      candidates: numbers of equal microbatches, the fewest first.
      measure: of a number of microbatches.
      fails_softly: whether a number that does not fit may be measured.
    """
    return _halved(candidates, measure) if fails_softly else _grown(candidates, measure)


def _halved(candidates: Sequence[int], measure: Callable[[int], StepMemory]) -> tuple[int, StepMemory]:
    """By bisection, the likeliest first: that all fits at once."""
    best = candidates[0], measure(candidates[0])
    if best[1].fits:
        return best
    low, high = 1, len(candidates)  # those before `low` do not fit, those from `high` on do
    while low < high:
        middle = (low + high) // 2
        measured = candidates[middle], measure(candidates[middle])
        if measured[1].fits:
            best, high = measured, middle
        else:
            low = middle + 1
            best = best if best[1].fits else measured
    return best


def _grown(candidates: Sequence[int], measure: Callable[[int], StepMemory]) -> tuple[int, StepMemory]:
    """From the smallest microbatch on, each time as large a one as must fit if all that the last step took grows with it.

    Some of it does not grow, weights for example, so that this is a bound from above.
    """
    parts, memory = candidates[-1], measure(candidates[-1])
    while memory.fits:

        def bound(fewer: int, parts: int = parts, memory: StepMemory = memory) -> float:
            return memory.base + (memory.needed - memory.base) * parts / fewer

        fewer = next((number for number in candidates if number < parts and bound(number) <= memory.available), None)
        if fewer is None or not (measured := measure(fewer)).fits:
            break
        parts, memory = fewer, measured
    return parts, memory
