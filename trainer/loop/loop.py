"""The loop. From `progress` to the last step:

    compile the step
    while there are steps left, and neither --patience nor --max_minutes ends the run (stopping.py):
        if a signal came: save, and leave unless it asked for no more
        where --unfreeze or --batch_ramp begins a stage: compile its step, unless that was done at the start
        train up to the next boundary, or for half a second
        at an evaluation boundary, and at the end: record training, evaluate, record, remember the best
        at a checkpoint boundary, at a new best, and at the end: save
    a loss, gradient or weight that is NaN or infinite: end, or go back to the last checkpoint (nan.py)

A checkpoint is on its way while steps go on. What a step does depends on the step and its position alone, never on where loops,
evaluations or checkpoints are cut.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from convoy import exits, heartbeat
from convoy.trainer.checkpoints import snapshot
from convoy.trainer.engines.protocol import LoopResult
from convoy.trainer.engines.steps_per_loop import StepsPerLoop
from convoy.trainer.loop import nan, stopping
from convoy.trainer.loop.nan import NanFound
from convoy.trainer.loop.profile import Profile
from convoy.trainer.loop.progress import Progress
from convoy.trainer.metrics import TrainingSums
from convoy.trainer.noise_scale import NoiseAverages
from convoy.trainer.outputs import advice, alerts
from convoy.trainer.outputs.goodput import Ledger
from convoy.trainer.processes import consensus

if TYPE_CHECKING:
    from convoy.data.sources.examples import Examples
    from convoy.trainer.experiment import Experiment
    from convoy.trainer.session import Session

_ADVICE_SECONDS = 10.0  # of steps, before their input is judged
_NOTICEABLE_SECONDS = 1.0


class Fed(NamedTuple):
    """What the engine was fed with."""

    examples: Examples
    batch_size: int

    def is_same(self, other: Fed | None) -> bool:
        return other is not None and self.examples is other.examples and self.batch_size == other.batch_size


class Loop:
    """One attempt at a run, from where `progress` says it is."""

    def __init__(self, experiment: Experiment, session: Session, progress: Progress):
        self.experiment, self.session, self.progress = experiment, session, progress
        self.config, self.plan, self.engine = experiment.config, experiment.plan, experiment.engine
        self.steps_per_loop, self.ledger = StepsPerLoop(self.config.steps_per_loop), Ledger()
        self._trained = self._advised = self._told_waiting = False
        names = experiment.data.dataset.class_names
        trained = experiment.data.examples_per_class.tolist()
        self._alerts = alerts.Watch(names, trained, self.engine.normalization_momentum)
        self._profile = Profile(self.config.profile_spec, self.engine, session.store, session.display)
        self._stage: int | None = None
        self._fed: Fed | None = Fed(experiment.train(progress.step), self.plan.clock.batch_size(progress.step))
        self._since = time.perf_counter()

    def run(self) -> Progress:
        """Trains to the end of the run, and returns the progress there.

        Raises:
          exits.Diverged: NaN, and --on_nan does not help.
          exits.TryAgain, exits.Stopped: a signal came, and the run is saved.
        """
        with self.session.display.start(self.plan.total, self.progress.step), contextlib.ExitStack() as stack:
            stack.callback(self._profile.drop)
            if self.progress.step < self.plan.total:
                self._enter_stage()
                self._compile_ahead()
            while True:
                try:
                    self._train_to_the_end()
                    break
                except NanFound as error:
                    if self.config.on_nan != "rollback":
                        nan.diverge(self.experiment, self.session, self.progress.step, str(error), error.in_first_step)
                    with self.ledger.counting("rollback"):
                        self._profile.drop()
                        self.progress = nan.roll_back(self.experiment, self.session, self.progress, error)
                    self._fed = None
            consensus.leader_decides(self.engine, self.session.saver.join)
        return self.progress

    def _train_to_the_end(self) -> None:
        plan, progress = self.plan, self.progress
        stopping.go_on(progress, plan.total)
        over = self._is_over()
        if progress.evaluated < progress.step and (over or plan.evaluates_at(progress.step)):
            # The checkpoint was saved when a signal interrupted the evaluation of its step.
            over = self._evaluate_and_save(over)
        while not over:
            self._save_if_asked()
            self.session.chaos.at("between", progress.step)
            self._enter_stage()
            # The leader chooses one length for all processes, each of which would measure another time.
            self._profile.begin(progress.step)
            boundary = self._profile.boundary(progress.step, plan.next_boundary(progress.step))
            length = functools.partial(self._next_length, boundary)
            self._train(consensus.leader_decides(self.engine, length))
            self._profile.end(progress.step)
            over = self._is_over()
            if over or plan.evaluates_at(progress.step):
                over = self._evaluate_and_save(over)
            elif plan.saves_at(progress.step):
                self._save()

    def _enter_stage(self) -> None:
        """Compiles the program of the next step, and feeds it anew, where that is another one than before."""
        step, position = self.progress.step, self.progress.position
        stage, wanted = self.plan.stage(step), Fed(self.experiment.train(step), self.plan.clock.batch_size(step))
        enters, feeds = stage != self._stage, not wanted.is_same(self._fed)
        if not enters and not feeds:
            return
        with self.ledger.counting("compile"):
            if enters:
                self._stage, self._trained = stage, False
                self.steps_per_loop = StepsPerLoop(self.config.steps_per_loop)
                self.engine.enter_stage(step)
            if feeds:
                self._fed = wanted
                self.engine.feed(wanted.examples, position)
            if enters:
                self.engine.compile()
        heartbeat.beat()

    def _compile_ahead(self) -> None:
        """With --batch_ramp, compiles the programs of all later stages too: what no device can do shows now."""
        later = self.plan.stage_borders[self.plan.stage(self.progress.step) :] if self.plan.clock.borders else ()
        for border in later:
            with self.ledger.counting("compile"):
                self.engine.compile_ahead(border, self.experiment.train(border))
            heartbeat.beat()

    def _is_over(self) -> bool:
        """Whether the run ends here, the same in all processes. No run ends without a step."""
        progress, config = self.progress, self.config
        if progress.step >= self.plan.total or stopping.out_of_patience(config, progress):
            return True
        if not config.max_minutes or not progress.step:
            return False
        seconds = progress.wall_seconds + time.perf_counter() - self._since
        return consensus.leader_decides(self.engine, lambda: stopping.out_of_time(config, seconds))

    def _next_length(self, boundary: int) -> int:
        self.session.saver.check()
        return self.steps_per_loop.steps(boundary - self.progress.step)

    def _train(self, steps: int) -> None:
        progress = self.progress
        self.session.chaos.at("step", progress.step)
        begun = time.perf_counter()
        result = self.engine.train(steps)
        seconds = time.perf_counter() - begun
        heartbeat.beat()
        if not result.finite:
            step = progress.step + result.steps - 1
            loss, norm = result.losses[-1], result.gradient_norms[-1]
            raise NanFound(
                f"the loss of step {step} is {loss:g} and its gradient's norm {norm:g}",
                step + 1,
                progress.position + self.plan.examples(progress.step, result.steps),
                in_first_step=step == 0,
            )
        examples = self.plan.examples(progress.step, result.steps)
        self._average_noise(result)
        self._count(result, examples)
        self._time(result, examples, seconds)
        if not self._trained:
            self._trained = True
            self._check_layers()
        waited = result.input_wait_seconds
        for listener in self.session.listeners:
            listener.update(
                progress.step,
                self.plan.epoch(progress.step),
                examples / seconds,
                None if waited is None else waited / seconds,
                float(result.losses[-1]),
            )

    def _average_noise(self, result: LoopResult) -> None:
        """Averages what the steps say of their gradients' noise, of one stage at a time: another trains other variables."""
        progress = self.progress
        if result.noise is None:
            progress.noise = None
            return
        if progress.noise is None or progress.step in self.plan.unfreeze_borders:
            progress.noise = NoiseAverages()
        for loss, *estimates in zip(*(array.tolist() for array in (result.losses, *result.noise)), strict=True):
            if math.isfinite(loss):  # or the step was skipped
                progress.noise.add(*estimates)

    def _count(self, result: LoopResult, examples: int) -> None:
        progress, window = self.progress, self.progress.window
        # One by one, so that where loops are cut cannot change a sum.
        for loss, norm in zip(result.losses.tolist(), result.gradient_norms.tolist(), strict=True):
            window.add(loss, norm)
            if self.config.on_nan == "skip":
                nan.count_skipped(self.experiment, self.session, progress, loss, norm)
            progress.step += 1
        progress.position += examples
        window.examples += examples
        window.correct += result.correct

    def _time(self, result: LoopResult, examples: int, seconds: float) -> None:
        progress, waited = self.progress, result.input_wait_seconds
        self.steps_per_loop.record(result.steps, seconds)
        if self.engine.warms_up and not self._trained:
            self.ledger.add("warm_up", seconds)
            return
        self.ledger.add("steps", seconds - (waited or 0.0))
        self.ledger.add("input_wait", waited or 0.0)
        progress.timed_steps += result.steps
        progress.timed_examples += examples
        progress.timed_seconds += seconds
        if waited is not None:
            progress.wait_seconds = (progress.wait_seconds or 0.0) + waited

    def _evaluate_and_save(self, over: bool) -> bool:
        """Returns whether the run ends here: it was `over` before, or the evaluation says so."""
        progress, step = self.progress, self.progress.step
        held_out = self.experiment.held_out(step)
        trained, speed = self._record_training()
        line = f"  epoch {self.plan.epoch(step):>5.1f}  step {step:>6}{trained}"
        best, noted = False, list[str]()
        if held_out:
            self.session.chaos.at("evaluation", step)
            with self.ledger.counting("evaluation"):
                sums = self.engine.evaluate(held_out, self.session.stop_requested)
            if sums is None:
                self._leave_if_asked()
                raise RuntimeError("the evaluation stopped although no signal came")
            metrics = sums.metrics()
            if not math.isfinite(metrics["loss"]):
                raise NanFound(f"the evaluation loss at step {step} is {metrics['loss']:g}", step, progress.position)
            self._record("eval", metrics)
            best = progress.better(step, metrics)
            noted = self._alerts.new(sums)
            line += f"  eval loss {metrics['loss']:.4f} {metrics['accuracy']:>7.2%}{' best' if best else '     '}"
        self.session.display.line(line + speed)
        for sentence in noted:
            self.session.display.line(f"  Note: {sentence}")
        progress.evaluated = step
        if stopping.out_of_patience(self.config, progress) and step < self.plan.total:
            over, progress.total_cut_short = True, self.plan.total
        if over or best or self.plan.saves_at(step):
            self._save()
        else:
            self._record_time_spent()
        return over

    def _record_training(self) -> tuple[str, str]:
        """Records the steps since the last record; returns loss and accuracy, and the speed, for the screen."""
        progress = self.progress
        if not progress.window.steps:
            return "", ""  # recorded before a signal interrupted the evaluation of this step
        metrics = progress.window.metrics()
        speed = progress.timed_examples / progress.timed_seconds if progress.timed_seconds else 0.0
        rate = self.engine.learning_rate(progress.step - 1)
        noise = progress.noise.metrics() if progress.noise else {}
        self._record("train", {**metrics, "learning_rate": rate, "images_per_second": round(speed, 1), **noise})
        progress.window = TrainingSums()
        self._advise()
        loss = "none" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
        noise_scale = f"  {progress.noise.describe()}" if progress.noise else ""
        return f"  train loss {loss} {metrics['accuracy']:>7.2%}", f"{noise_scale}  {speed:,.0f} images/s"

    def _advise(self) -> None:
        """Notes once, as soon as it can be told, that steps wait for data."""
        progress = self.progress
        if self._advised or progress.wait_seconds is None or progress.timed_seconds < _ADVICE_SECONDS:
            return
        self._advised = True
        if sentence := advice.input_advice(progress.wait_seconds / progress.timed_seconds, self.config.data):
            self.session.display.line(f"  Note: {sentence}")

    def _record(self, split: str, metrics: Mapping[str, float | None]) -> None:
        step, recorder = self.progress.step, self.session.recorder
        recorder.metrics(split, step, self.plan.epoch(step), self.plan.clock.position(step), **metrics)
        self._alerts.record(split, step, self.plan.epoch(step), metrics)
        self.progress.lines = recorder.lines

    def _record_time_spent(self) -> None:
        self.session.recorder.event("spent", step=self.progress.step, seconds=self.ledger.take())

    def _save(self) -> None:
        progress = self.progress
        step = progress.step
        self.session.chaos.at("snapshot", step)
        now = time.perf_counter()
        progress.wall_seconds += now - self._since
        self._since = now
        self._record_time_spent()
        self._check_layers()
        try:
            with self.ledger.counting("save_blocked"):
                waited = self.session.save(self.experiment, progress)
        except snapshot.NotFinite as error:
            # The loss is measured before an update; what the update made of the weights shows here first.
            what = f"after step {step - 1} the tensor {error} holds numbers that are not finite"
            raise NanFound(what, step, progress.position) from error
        if waited > _NOTICEABLE_SECONDS and not self._told_waiting:
            self._told_waiting = True
            self.session.display.line(
                f"  Note: step {step} waited {waited:.1f} s for the checkpoint before to be written; --checkpoint_every is"
                " shorter than a save takes."
            )

    def _check_layers(self) -> None:
        """After the first steps, and before each save: what a layer does may depend on what it has seen."""
        try:
            self.engine.check_layers()
        except exits.CannotRun:
            consensus.final_barrier(self.engine)  # every process raises the same
            raise

    def _save_if_asked(self) -> None:
        if self.session.save_requested():
            self._leave_if_asked()
            self._save()
            self.session.display.line(f"  saves step {self.progress.step}, as it was asked to")

    def _leave_if_asked(self) -> None:
        if self.session.stop_requested():
            self._save()
            # No process leaves before the checkpoint is written.
            consensus.leader_decides(self.engine, self.session.saver.join)
            self.session.recorder.event("left", step=self.progress.step)
            raise self.session.signals.leave(f"step {self.progress.step}")
