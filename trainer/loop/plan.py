"""When a run evaluates, saves and ends: a pure function of the step."""

from __future__ import annotations

import bisect
import dataclasses
from fractions import Fraction

from convoy.trainer.config import RunConfig
from convoy.trainer.flags.durations import Duration


@dataclasses.dataclass(frozen=True)
class Plan:
    """When what happens, in steps.

    Attributes:
      total: steps of the whole run.
      batch_size: examples of a step.
      examples: positions of an epoch.
      stage_borders: where more of the network begins to train, and another program computes the steps (--unfreeze).
    """

    total: int
    batch_size: int
    examples: int
    eval_every: Duration
    checkpoint_every: Duration
    stage_borders: tuple[int, ...] = ()

    @classmethod
    def from_config(cls, config: RunConfig, examples: int) -> Plan:
        total = config.total_steps(examples)
        borders = config.stage_borders(examples)
        return cls(total, config.batch_size, examples, config.eval_every_spec, config.checkpoint_every_spec, borders)

    def next_evaluation(self, step: int) -> int:
        return min(self.eval_every.next_after(step, self.examples, self.batch_size), self.total)

    def next_checkpoint(self, step: int) -> int:
        return min(self.checkpoint_every.next_after(step, self.examples, self.batch_size), self.total)

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

    def examples_of(self, steps: int) -> int:
        """How many examples so many steps train on."""
        return steps * self.batch_size

    def epoch(self, step: int) -> float:
        """How many epochs have passed at a step, fractions included."""
        return float(Fraction(self.examples_of(step), self.examples))
