"""The loop. From `progress` to the last step:

    while there are steps left:
        train up to the next boundary, or for half a second
        stop if the loss or a gradient is not finite
        at an evaluation boundary: record training, evaluate, record, remember the best
        at a checkpoint boundary, at a new best, and at the end: save
        if a signal came: save and leave

What a step does depends on the step alone, never on where loops, evaluations or checkpoints are cut.
"""

from __future__ import annotations

import dataclasses
import math
import time
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np

from convoy import exits, pulse
from convoy.chaos import Chaos
from data.sources.examples import Examples
from trainer import verdict
from trainer.checkpoints import Keeper
from trainer.config import RunConfig
from trainer.display import Display
from trainer.durations import Duration
from trainer.engines.pace import Pace
from trainer.engines.protocol import Engine
from trainer.guards import Signals
from trainer.metrics import TrainingSums
from trainer.progress import Progress
from trainer.recorder import Recorder

_JUDGE_SECONDS = 10.0  # of steps, before their input is judged


@dataclasses.dataclass(frozen=True)
class Plan:
    """When what happens, in steps."""

    total: int
    batch_size: int
    examples: int
    eval_every: Duration
    checkpoint_every: Duration

    @classmethod
    def of(cls, config: RunConfig, examples: int) -> Plan:
        return cls(
            config.total_steps(examples),
            config.batch_size,
            examples,
            Duration.parse(config.eval_every, "eval_every"),
            Duration.parse(config.checkpoint_every, "checkpoint_every"),
        )

    def next_evaluation(self, step: int) -> int:
        return min(self.eval_every.next_after(step, self.examples, self.batch_size), self.total)

    def next_checkpoint(self, step: int) -> int:
        return min(self.checkpoint_every.next_after(step, self.examples, self.batch_size), self.total)

    def evaluates_at(self, step: int) -> bool:
        return step > 0 and self.next_evaluation(step - 1) == step

    def saves_at(self, step: int) -> bool:
        return step > 0 and self.next_checkpoint(step - 1) == step

    def epoch(self, step: int) -> float:
        """Epochs that have passed at a step, a fraction."""
        return float(Fraction(step * self.batch_size, self.examples))


class Loop:
    """One attempt at a run. `held_out` are the examples that choose the best checkpoint, if any."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        held_out: Examples | None,
        progress: Progress,
        keeper: Keeper,
        recorder: Recorder,
        display: Display,
        signals: Signals,
        chaos: Chaos,
        config: RunConfig,
        identity: dict[str, Any],
    ):
        self.engine, self.plan, self.held_out, self.progress = engine, plan, held_out, progress
        self.keeper, self.recorder, self.display = keeper, recorder, display
        self.signals, self.chaos, self.data, self.identity = signals, chaos, config.data, identity
        self.pace = Pace(config.steps_per_loop)
        self._loops = 0
        self._judged = False
        self._since = time.perf_counter()

    def run(self) -> None:
        """Trains to the end of the plan. Raises Diverged, or TryAgain and Stopped once the run is saved."""
        plan, progress = self.plan, self.progress
        with self.display.start(plan.total, progress.step):
            if plan.evaluates_at(progress.step) and progress.evaluated < progress.step:
                # The checkpoint was saved when a signal interrupted the evaluation of its step.
                self._evaluate_and_save()
            while progress.step < plan.total:
                self._leave_if_asked()
                self.chaos.at("between", progress.step)
                boundary = min(plan.next_evaluation(progress.step), plan.next_checkpoint(progress.step))
                # One length for all processes: each would measure another time.
                length = self.engine.share(str(self.pace.steps(boundary - progress.step)).encode())
                self._train(int(length))
                if plan.evaluates_at(progress.step):
                    self._evaluate_and_save()
                elif plan.saves_at(progress.step):
                    self._save()

    def _train(self, steps: int) -> None:
        progress, window = self.progress, self.progress.window
        self.chaos.at("step", progress.step)
        begun = time.perf_counter()
        result = self.engine.train(steps)
        seconds = time.perf_counter() - begun
        pulse.tell()
        if not result.finite:
            step = progress.step + result.steps - 1
            loss, norm = result.losses[-1], result.gradient_norms[-1]
            self._diverged(f"the loss of step {step} is {loss:g} and its gradient's norm {norm:g}")
        progress.step += result.steps
        # One by one, so that where loops are cut cannot change a sum.
        for loss, norm in zip(result.losses.tolist(), result.gradient_norms.tolist(), strict=True):
            window.loss += loss
            if math.isfinite(norm):
                window.gradient_norm += norm
            else:
                window.skipped += 1
        window.steps += result.steps
        window.correct += result.correct
        window.examples += result.steps * self.plan.batch_size
        self._loops += 1
        self.pace.took(result.steps, seconds)
        if self._loops > 1:  # the first one traced the step
            progress.timed_steps += result.steps
            progress.timed_seconds += seconds
            if result.input_wait_seconds is not None:
                progress.wait_seconds = (progress.wait_seconds or 0.0) + result.input_wait_seconds
        self.display.update(
            progress.step,
            self.plan.epoch(progress.step),
            result.steps * self.plan.batch_size / seconds,
            None if result.input_wait_seconds is None else result.input_wait_seconds / seconds,
            float(result.losses[-1]),
        )

    def _evaluate_and_save(self) -> None:
        progress = self.progress
        step = progress.step
        trained, speed = self._record_training()
        line = f"  epoch {self.plan.epoch(step):>5.1f}  step {step:>6}{trained}"
        best = False
        if self.held_out:
            self.chaos.at("evaluation", step)
            sums = self.engine.evaluate(self.held_out, self._asked)
            if sums is None:
                self._leave_if_asked()
                raise RuntimeError("the evaluation stopped although no signal came")
            metrics = sums.metrics()
            if not math.isfinite(metrics["loss"]):
                self._diverged(f"the evaluation loss at step {step} is {metrics['loss']:g}")
            self._record("eval", metrics)
            best = progress.better(step, metrics)
            line += f"  eval loss {metrics['loss']:.4f} {metrics['accuracy']:>7.2%}{' best' if best else '     '}"
        self.display.line(line + speed)
        progress.evaluated = step
        if best or self.plan.saves_at(step) or step == self.plan.total:
            self._save()

    def _record_training(self) -> tuple[str, str]:
        """Records the steps since the last record; says loss and accuracy, and the speed, for the screen."""
        progress = self.progress
        if not progress.window.steps:
            return "", ""  # recorded before a signal interrupted the evaluation of this step
        metrics = progress.window.metrics()
        speed = progress.timed_steps * self.plan.batch_size / progress.timed_seconds if progress.timed_seconds else 0.0
        rate = self.engine.learning_rate(progress.step - 1)
        self._record("train", {**metrics, "learning_rate": rate, "images_per_second": round(speed, 1)})
        progress.window = TrainingSums()
        self._judge_input()
        return f"  train loss {metrics['loss']:.4f} {metrics['accuracy']:>7.2%}", f"  {speed:,.0f} images/s"

    def _judge_input(self) -> None:
        """Says once, as soon as it can be told, that steps wait for data."""
        progress = self.progress
        if self._judged or progress.wait_seconds is None or progress.timed_seconds < _JUDGE_SECONDS:
            return
        self._judged = True
        if found := verdict.of_waiting(progress.wait_seconds / progress.timed_seconds, self.data):
            self.display.line(f"  Note: {found}")

    def _record(self, split: str, metrics: dict[str, float]) -> None:
        step = self.progress.step
        self.recorder.metrics(split, step, self.plan.epoch(step), step * self.plan.batch_size, **metrics)
        self.progress.lines = self.recorder.lines

    def _save(self) -> None:
        progress = self.progress
        step = progress.step
        self.chaos.at("snapshot", step)
        now = time.perf_counter()
        progress.wall_seconds += now - self._since
        self._since = now
        tensors = self.engine.state()
        # The loss is measured before an update; what the update made of the weights shows here first.
        for name, tensor in tensors.items():
            if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
                self._diverged(f"after step {step - 1} the tensor {name} holds numbers that are not finite")
        if not self.engine.cluster.leads:
            return
        state = {"progress": progress.to_dict(), **self.identity}
        best = int(progress.best["step"]) if progress.best else None
        self.keeper.save(step, tensors, state, best, lambda: self.chaos.at("manifest", step))
        self.recorder.event("saved", step=step, seconds=time.perf_counter() - now)

    def _asked(self) -> bool:
        pulse.tell()
        return self.engine.agree(self.signals.asked)

    def _leave_if_asked(self) -> None:
        if self._asked():
            self._save()
            self.recorder.event("left", step=self.progress.step)
            self.engine.agree(True)  # nobody leaves before it is saved
            raise self.signals.leave(f"step {self.progress.step}")

    def _diverged(self, what: str) -> NoReturn:
        self.recorder.event("diverged", step=self.progress.step, what=what)
        last = self.keeper.last
        saved = f"the last good checkpoint is {last.folder}" if last else "no checkpoint had been saved before"
        raise exits.Diverged(
            f"{what}; {saved}. Lower --learning_rate, add --warmup, or bound the gradient with --clip_norm=1."
        )
