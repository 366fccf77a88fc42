"""The loop. From `progress` to the last step:

    while there are steps left:
        train up to the next boundary, or for half a second
        if the loss or a gradient is not finite: stop, or what --on_nan says
        at an evaluation boundary: record training, evaluate, record, remember the best
        at a checkpoint boundary, at a new best, and at the end: save
        if a signal came: save and leave

A checkpoint is on its way while steps go on. What a step does depends on the step alone, never on where loops, evaluations or
checkpoints are cut.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NoReturn

from convoy import exits, heartbeat
from convoy.chaos import Chaos
from convoy.data.identity import Identity
from convoy.data.sources.examples import Examples
from convoy.trainer.checkpoints import Saver, snapshot
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.pace import StepsPerLoop
from convoy.trainer.engines.protocol import Engine
from convoy.trainer.flags.durations import Duration
from convoy.trainer.loop.progress import Progress
from convoy.trainer.metrics import TrainingSums
from convoy.trainer.outputs import advice
from convoy.trainer.outputs.display import Display
from convoy.trainer.outputs.goodput import Ledger
from convoy.trainer.outputs.status import Status
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals

MAX_CONSECUTIVE_SKIPS, MOST_ROLLBACKS = 10, 3  # of --on_nan: in a row, and in a run
_JUDGE_SECONDS = 10.0  # of steps, before their input is judged
_NOTICEABLE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """When what happens, in steps."""

    total: int
    batch_size: int
    examples: int
    eval_every: Duration
    checkpoint_every: Duration

    @classmethod
    def from_config(cls, config: RunConfig, examples: int) -> Plan:
        return cls(
            config.total_steps(examples),
            config.batch_size,
            examples,
            config.eval_every_spec,
            config.checkpoint_every_spec,
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


class _NotFinite(Exception):
    """A loss, gradient or weight is no finite number; the text says which."""


class Loop:
    """One attempt at a run. `held_out` are the examples that choose the best checkpoint, if any."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        train: Examples,
        held_out: Examples | None,
        progress: Progress,
        saver: Saver,
        display: Display,
        status: Status,
        signals: Signals,
        chaos: Chaos,
        config: RunConfig,
        identity: Identity,
    ):
        self.engine, self.plan, self.train, self.held_out, self.progress = engine, plan, train, held_out, progress
        self.saver, self.manager, self.recorder, self.display = saver, saver.manager, saver.recorder, display
        self.status, self.signals, self.chaos, self.config, self.identity = status, signals, chaos, config, identity
        self.pace, self.ledger = StepsPerLoop(config.steps_per_loop), Ledger()
        self._loops = 0
        self._judged = self._told_waiting = False
        self._since = time.perf_counter()

    def run(self) -> None:
        """Trains to the end of the plan. Raises Diverged, or TryAgain and Stopped once the run is saved."""
        with self.display.start(self.plan.total, self.progress.step):
            while True:
                try:
                    self._to_the_end()
                    break
                except _NotFinite as error:
                    self._roll_back(str(error))
            consensus.leader_decides(self.engine, self.saver.join)

    def _to_the_end(self) -> None:
        plan, progress = self.plan, self.progress
        if plan.evaluates_at(progress.step) and progress.evaluated < progress.step:
            # The checkpoint was saved when a signal interrupted the evaluation of its step.
            self._evaluate_and_save()
        while progress.step < plan.total:
            self._leave_if_asked()
            self.chaos.at("between", progress.step)
            boundary = min(plan.next_evaluation(progress.step), plan.next_checkpoint(progress.step))
            # One length for all processes, each of which would measure another time.
            self._train(consensus.leader_decides(self.engine, functools.partial(self._next_length, boundary)))
            if plan.evaluates_at(progress.step):
                self._evaluate_and_save()
            elif plan.saves_at(progress.step):
                self._save()

    def _next_length(self, boundary: int) -> int:
        self.saver.check()
        return self.pace.steps(boundary - self.progress.step)

    def _train(self, steps: int) -> None:
        progress, window = self.progress, self.progress.window
        self.chaos.at("step", progress.step)
        begun = time.perf_counter()
        result = self.engine.train(steps)
        seconds = time.perf_counter() - begun
        heartbeat.beat()
        if not result.finite:
            step = progress.step + result.steps - 1
            loss, norm = result.losses[-1], result.gradient_norms[-1]
            self._not_finite(f"the loss of step {step} is {loss:g} and its gradient's norm {norm:g}", step + 1)
        # One by one, so that where loops are cut cannot change a sum.
        for loss, norm in zip(result.losses.tolist(), result.gradient_norms.tolist(), strict=True):
            window.add(loss, norm)
            if self.config.on_nan == "skip":
                self._count_skipped(loss, norm)
            progress.step += 1
        window.correct += result.correct
        window.examples += result.steps * self.plan.batch_size
        self._loops += 1
        self.pace.record(result.steps, seconds)
        waited = result.input_wait_seconds
        if self._loops == 1:  # it traced the step
            self._check_layers()
            self.ledger.add("compile", seconds)
        else:
            self.ledger.add("steps", seconds - (waited or 0.0))
            self.ledger.add("input_wait", waited or 0.0)
            progress.timed_steps += result.steps
            progress.timed_seconds += seconds
            if waited is not None:
                progress.wait_seconds = (progress.wait_seconds or 0.0) + waited
        for told in (self.display, self.status):
            told.update(
                progress.step,
                self.plan.epoch(progress.step),
                result.steps * self.plan.batch_size / seconds,
                None if waited is None else waited / seconds,
                float(result.losses[-1]),
            )

    def _count_skipped(self, loss: float, norm: float) -> None:
        progress = self.progress
        # What loss scaling skips, to find its scale, is its own affair: it has a loss.
        scaled = self.config.precision == "mixed_float16"
        if math.isfinite(loss) and (scaled or math.isfinite(norm)):
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        # As text: JSON has no such numbers.
        self.recorder.event("skipped", step=progress.step, loss=str(loss), gradient_norm=str(norm))
        if progress.skipped_in_a_row > MAX_CONSECUTIVE_SKIPS:
            self._diverged(
                f"{progress.skipped_in_a_row} steps in a row, up to step {progress.step}, had a loss or gradient that is"
                " not finite"
            )

    def _evaluate_and_save(self) -> None:
        progress = self.progress
        step = progress.step
        trained, speed = self._record_training()
        line = f"  epoch {self.plan.epoch(step):>5.1f}  step {step:>6}{trained}"
        best = False
        if self.held_out:
            self.chaos.at("evaluation", step)
            with self.ledger.counting("evaluation"):
                sums = self.engine.evaluate(self.held_out, self._asked)
            if sums is None:
                self._leave_if_asked()
                raise RuntimeError("the evaluation stopped although no signal came")
            metrics = sums.metrics()
            if not math.isfinite(metrics["loss"]):
                self._not_finite(f"the evaluation loss at step {step} is {metrics['loss']:g}", step)
            self._record("eval", metrics)
            best = progress.better(step, metrics)
            line += f"  eval loss {metrics['loss']:.4f} {metrics['accuracy']:>7.2%}{' best' if best else '     '}"
        self.display.line(line + speed)
        progress.evaluated = step
        if best or self.plan.saves_at(step) or step == self.plan.total:
            self._save()
        else:
            self._tell_what_was_spent()

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
        loss = "none" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
        return f"  train loss {loss} {metrics['accuracy']:>7.2%}", f"  {speed:,.0f} images/s"

    def _judge_input(self) -> None:
        """Says once, as soon as it can be told, that steps wait for data."""
        progress = self.progress
        if self._judged or progress.wait_seconds is None or progress.timed_seconds < _JUDGE_SECONDS:
            return
        self._judged = True
        if found := advice.input_advice(progress.wait_seconds / progress.timed_seconds, self.config.data):
            self.display.line(f"  Note: {found}")

    def _record(self, split: str, metrics: Mapping[str, float | None]) -> None:
        step = self.progress.step
        self.recorder.metrics(split, step, self.plan.epoch(step), step * self.plan.batch_size, **metrics)
        self.progress.lines = self.recorder.lines

    def _tell_what_was_spent(self) -> None:
        self.recorder.event("spent", step=self.progress.step, seconds=self.ledger.take())

    def _save(self) -> None:
        progress = self.progress
        step = progress.step
        self.chaos.at("snapshot", step)
        now = time.perf_counter()
        progress.wall_seconds += now - self._since
        self._since = now
        self._tell_what_was_spent()
        self._check_layers()
        try:
            if not self.engine.cluster.is_leader:
                snapshot.check(self.engine.stream_state())
                return
            state = {"progress": progress.to_dict(), **self.identity.to_dict()}
            best = int(progress.best["step"]) if progress.best else None
            with self.ledger.counting("save_blocked"):
                waited = self.saver.save(step, self.engine.stream_state(), state, best)
        except snapshot.NotFinite as error:
            # The loss is measured before an update; what the update made of the weights shows here first.
            self._not_finite(f"after step {step - 1} the tensor {error} holds numbers that are not finite", step)
        if waited > _NOTICEABLE_SECONDS and not self._told_waiting:
            self._told_waiting = True
            self.display.line(
                f"  Note: step {step} waited {waited:.1f} s for the checkpoint before to be written; --checkpoint_every is"
                " shorter than a save takes."
            )

    def _check_layers(self) -> None:
        """After the first steps, and before each save: what a layer does may depend on what it has seen."""
        try:
            self.engine.check_layers()
        except exits.CannotRun:
            consensus.final_barrier(self.engine)  # all find the same
            raise

    def _asked(self) -> bool:
        heartbeat.beat()
        return self.engine.any(self.signals.asked)

    def _leave_if_asked(self) -> None:
        if self._asked():
            self._save()
            # Nobody leaves before it is saved.
            consensus.leader_decides(self.engine, self.saver.join)
            self.recorder.event("left", step=self.progress.step)
            raise self.signals.leave(f"step {self.progress.step}")

    def _not_finite(self, what: str, step: int) -> NoReturn:
        """Ends the run, or goes back, for a number that shows once `step` steps are made."""
        if self.config.on_nan != "rollback":
            self._diverged(what)
        self._failed = step
        raise _NotFinite(what)

    def _roll_back(self, what: str) -> None:
        """Goes back to the last checkpoint; the examples since are not shown again, others take their places."""

        tensors: dict[str, Any] | None = None

        def load_latest() -> dict[str, Any] | None:
            nonlocal tensors
            self.saver.join()
            if (found := self.manager.load_latest()) is None:
                return None
            tensors = found[0]
            return found[1]["progress"]

        made, shift, failed = self.progress.rollbacks + 1, self.progress.shift, self._failed
        if made > MOST_ROLLBACKS:
            self._diverged(f"{what}, after {MOST_ROLLBACKS} rollbacks")
        found = consensus.leader_decides(self.engine, load_latest)
        if found is None:
            self._diverged(f"{what}, and there is no checkpoint to go back to")
        with self.ledger.counting("rollback"):
            # Those who hold it hold this very object.
            self.progress.take(Progress.from_dict(found))
            progress = self.progress
            progress.rollbacks, progress.shift = made, shift + failed - progress.step
            self.recorder.event("rollback", step=progress.step, failed=failed, what=what, shift=progress.shift)
            self.recorder.resume(progress.lines, progress.step)
            self.engine.restore(tensors)
            self.engine.feed(self.train, (progress.step + progress.shift) * self.config.batch_size)
        self.display.line(
            f"  Note: {what}: back to step {progress.step}, on with other examples ({made} of {MOST_ROLLBACKS} times)."
        )

    def _diverged(self, what: str) -> NoReturn:
        with contextlib.suppress(exits.ConvoyError):
            self.saver.join()
        self.recorder.event("diverged", step=self.progress.step, what=what)
        last = self.manager.last
        saved = f"the last good checkpoint is {last.folder}" if last else "no checkpoint had been saved before"
        raise exits.Diverged(
            f"{what}; {saved}. Lower --learning_rate, add --warmup, or bound the gradient with --clip_norm=1."
        )
