"""When a run evaluates, saves and ends: a pure function of the step."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from fractions import Fraction

from convoy.trainer.config import RunConfig
from convoy.trainer.flags.clock import Clock
from convoy.trainer.flags.durations import Duration


@dataclasses.dataclass(frozen=True)
class Plan:
    """When what happens, in steps.

    Attributes:
      total: steps of the whole run.
      clock: which examples a step trains on.
      unfreeze_borders: where more of the network begins to train (--unfreeze).
    """

    total: int
    clock: Clock
    eval_every: Duration
    checkpoint_every: Duration
    unfreeze_borders: tuple[int, ...] = ()

    @classmethod
    def from_config(cls, config: RunConfig, examples: int) -> Plan:
        """The plan of a run whose epoch has so many examples."""
        clock, borders = config.clock(examples), config.unfreeze_borders(examples)
        return cls(config.total_steps(examples), clock, config.eval_every_spec, config.checkpoint_every_spec, borders)

    @functools.cached_property
    def stage_borders(self) -> tuple[int, ...]:
        """Where another program begins to compute the steps: --unfreeze and --batch_ramp."""
        return tuple(sorted({*self.unfreeze_borders, *self.clock.borders}))

    def next_evaluation(self, step: int) -> int:
        return min(self.eval_every.next_after(step, self.clock), self.total)

    def next_checkpoint(self, step: int) -> int:
        return min(self.checkpoint_every.next_after(step, self.clock), self.total)

    def next_boundary(self, step: int) -> int:
        """The step at which training stops next, to evaluate, to save, to enter a stage or because the run is over."""
        borders = self.stage_borders[self.stage(step) :]
        return min(self.next_evaluation(step), self.next_checkpoint(step), *borders[:1])

    def stage(self, step: int) -> int:
        """How many stages ended before a step."""
        return bisect.bisect_right(self.stage_borders, step)

    def evaluates_at(self, step: int) -> bool:
        return step > 0 and self.next_evaluation(step - 1) == step

    def saves_at(self, step: int) -> bool:
        return step > 0 and self.next_checkpoint(step - 1) == step

    def examples(self, step: int, steps: int) -> int:
        """How many examples so many steps from `step` on train on."""
        return self.clock.position(step + steps) - self.clock.position(step)

    def epoch(self, step: int) -> float:
        """How many epochs have passed at a step, fractions included."""
        return float(Fraction(self.clock.position(step), self.clock.epoch))
