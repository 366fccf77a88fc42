"""What a run says on the screen before its first step and after its last. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from convoy.counting import counted
from convoy.store import Store
from convoy.trainer.checkpoints import Checkpoint, format
from convoy.trainer.config import RunConfig
from convoy.trainer.engines.steps_per_loop import TARGET_SECONDS
from convoy.trainer.flags.clock import Clock
from convoy.trainer.loop import stopping
from convoy.trainer.outputs import measured
from convoy.trainer.outputs.display import Display
from convoy.trainer.run_dir import commands
from convoy.trainer.run_dir.files import BAD_IMAGES, CURVES, REPORT, RESULT

if TYPE_CHECKING:
    from convoy.trainer.experiment import Experiment


def show_start(display: Display, experiment: Experiment) -> None:
    """The block at the start: what is trained on what, and how."""
    config = experiment.config
    display.block(f"Convoy: {config.model} on {config.data.dataset}", _rows(experiment))


def _rows(experiment: Experiment) -> Iterator[tuple[str, str]]:
    config, data, plan, engine = experiment.config, experiment.data, experiment.plan, experiment.engine
    yield "devices", f"{engine.description}, {config.backend}, strategy {config.strategy}, {config.precision}"
    held_out = f", {len(data.held_out):,} ({data.config.eval_split}) choose the best" if data.held_out else ""
    if data.held_out and data.config.eval_split in ("test", data.config.test_split):
        held_out += " and are the test too: what it finds will be a little too good"
    yield "data", f"{counted(int(data.examples_per_class.sum()), 'example')}{held_out}, augment {data.config.augment}"
    if data.config.balance != "none":
        yield "balance", f"{data.config.balance}: {_balance(data.examples_per_class, data.draws_per_class)}"
    parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
    yield "batch", f"{config.batch_size} global, {config.batch_size // engine.replicas} per replica{parts}"
    if config.batch_ramp:
        yield "batch ramp", ", ".join(f"{size} up to step {step:,}" for size, step in _ramp(plan.clock))
    at_last = " of full batches" if config.batch_ramp else ""
    yield "steps", f"{plan.total:,}, {plan.clock.epoch / config.batch_size:,.1f} per epoch{at_last}"
    decay = f", decoupled weight decay {config.weight_decay:g}" if config.weight_decay else ""
    yield "learning rate", f"{config.peak_learning_rate:g} peak, {config.schedule}, {config.optimizer}{decay}"
    if config.loss != "cross_entropy":
        yield "loss", config.loss
    yield "parameters", f"{engine.parameters:,}"
    delay = counted(config.steps_per_loop, "step") if config.steps_per_loop else f"about {2 * TARGET_SECONDS:g} s"
    yield "signal delay", f"at worst one loop, {delay}, and a save"
    yield "run directory", config.run_dir


def _ramp(clock: Clock) -> Iterator[tuple[int, int]]:
    """Each smaller batch size, and the step at which its successor begins."""
    return zip((segment.batch_size for segment in clock.segments), clock.borders, strict=False)


def _balance(examples: np.ndarray, draws: np.ndarray) -> str:
    """What --balance does to the classes: from how many examples to how many draws, each int64 [classes]."""
    present = examples > 0
    many, few = examples.max(), examples[present].min()
    high, low = draws.max(), draws[present].min()
    absent = int((~present).sum())
    empty = f"; {counted(absent, 'class')} {'has' if absent == 1 else 'have'} none" if absent else ""
    drawn = f"{high:,} draws each" if high == low else f"{high:,} to {low:,} draws"
    return f"{many:,} to {few:,} examples a class -> {drawn} per epoch{empty}"


def show_finished(display: Display, asked: RunConfig, result: dict[str, Any], store: Store) -> None:
    """The lines of a run that had come to its end before. `asked`: its configuration, as the command line has it."""
    reason = stopping.remedy(result) or f"nothing is left to do of --duration={asked.duration}"
    display.line(f"{asked.run_dir} is finished: {reason}.")
    if not result.get("stopped_early"):
        _show_command(display, "This trains on", asked, result)
    if store.url:  # the leader, which has read it
        show_end(display, asked, result, max(format.complete(store), default=None))


def show_end(display: Display, asked: RunConfig, result: dict[str, Any], last: Checkpoint | None) -> None:
    """The lines at the end: what was reached, where it is, and what measures it. `asked`: as for show_finished."""
    train = result["train"]
    if reason := stopping.sentence(result, asked):
        display.line(reason)
        _show_command(display, "This goes on", asked, result)
    if best := result.get("eval_best"):
        display.line(f"{_shares(best)}, with the weights of step {best['step']:,}, the best.")
    speed = f", {train['images_per_second']:,.0f} images/s" if train["images_per_second"] else ""
    display.line(f"{_shares(result['eval'])}, {result['epoch']:.4g} epochs in {result['wall_seconds']:.0f} s{speed}.")
    split = result["eval"]["split"]
    if note := measured.note(split, split not in ("test", asked.data.test_split) or split == asked.data.eval_split):
        display.line(f"  Note: {note}")
    if bad := result.get("bad_images"):
        display.line(f"{counted(bad, 'image')} could not be read; {asked.run_dir}/{BAD_IMAGES} says which and why.")
    page = f", page {asked.run_dir}/{REPORT}" if asked.report else ""
    display.line(f"Result {asked.run_dir}/{RESULT}, curves {asked.run_dir}/{CURVES}{page}")
    if last:
        of_best = ", with --checkpoint=best the best" if result.get("eval_best") else ""
        display.line(
            f"Checkpoint {asked.run_dir}/{last.folder}; `{commands.evaluate(asked.run_dir)}` measures it{of_best}."
        )


def _show_command(display: Display, what: str, asked: RunConfig, result: dict[str, Any]) -> None:
    display.line(f"{what}:\n  {commands.train(asked, **stopping.more(result, asked))}")


def _shares(measurement: dict[str, Any]) -> str:
    examples = counted(measurement["examples"], f"{measured.called(measurement['split'])} example")
    return f"{measurement['accuracy']:.2%} of {examples} right (loss {measurement['loss']:.4f})"
