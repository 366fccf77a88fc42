"""Measures a checkpoint of a run on a split of its data set. `convoy evaluate` says how that is asked for."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convoy import exits, terminal
from convoy.counting import counted
from convoy.data.sources.examples import Examples
from convoy.outside import printable
from convoy.store import Store
from convoy.trainer import figures
from convoy.trainer.checkpoints import select
from convoy.trainer.config import RunConfig
from convoy.trainer.evaluations.measuring import LEVEL, METHOD, Measuring, accuracy, interval, logits_of
from convoy.trainer.evaluations.names import ADDITIONS
from convoy.trainer.experiment import build
from convoy.trainer.logits import Logits
from convoy.trainer.outputs import measured
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import data_identity, opening


def measure(
    trained: RunConfig,
    store: Store,
    checkpoint: str,
    split: str,
    signals: Signals,
    download: bool,
    additions: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[str, Any], list[str]]:
    """(the measurement as `eval` of result.json has it, with the step, intervals and what else is asked for; that as lines).

    Args:
      trained: the run's configuration, which this user stands for.
      store: the run's directory.
      checkpoint: last, best, or a step.
      split: a split of the data set; eval: the examples that chose the best checkpoint; auto: what a finished run is measured
        on.
      signals: requests to leave.
      download: that of data.opening.open_splits.
      additions: rows of evaluations.names.ADDITIONS -> the values of their flags.
    """
    selected, tensors, _ = select(store, checkpoint)
    # The machine may be another one than it was trained on; one device is enough and fits every batch size.
    parts = max(trained.accumulate, 1)  # a run directory may say anything; nothing is tried here
    anywhere = dataclasses.replace(trained, devices="auto", strategy="one", xla="auto", accumulate=parts)
    if split == "test" and trained.data.test_split == "none":  # now it is asked for
        anywhere = dataclasses.replace(anywhere, data=dataclasses.replace(anywhere.data, test_split="auto"))
    experiment = build(anywhere, signals, single_process=True, download=download)
    config, data, engine = experiment.config, experiment.data, experiment.engine
    data_identity.refuse_other_data(config, experiment.identity, data_identity.known(store))
    examples: Examples | None
    if split == "auto":
        split, examples = data.final
        split = split if split in data.dataset.split_names else "eval"
    else:
        examples = data.held_out if split == "eval" else data.dataset.split(split)
    if examples is None:
        given = ", ".join(data.dataset.split_names)
        raise exits.CannotRun(
            f"--split=eval, but the run held no examples out (--eval_split=none); the splits of its data set are {given}."
        )
    opening.refuse_other_model(engine.check, tensors, config)
    engine.restore(tensors)

    def stop() -> bool:
        return consensus.stop_requested(engine, signals)

    sums, logits = logits_of(experiment, examples, stop)
    measurement = _with_intervals(sums.measurement(data.dataset.class_names, data.examples_per_class), logits)
    chose = measured.chose(split, config.data.eval_split)
    measuring = Measuring(experiment, split, examples, logits, stop)
    also = {name: ADDITIONS.load(name)(measuring, value) for name, value in additions.items()}
    measurement = {
        "step": selected.step,
        "split": split,
        "chose_checkpoint": chose,
        **measurement,
        **{name: outcome.values for name, outcome in also.items()},
    }
    return measurement, [line for outcome in also.values() for line in outcome.lines]


def _with_intervals(measurement: dict[str, Any], logits: Logits) -> dict[str, Any]:
    """The measurement with 95 % intervals: of shares by Wilson's method, of the loss by the normal distribution."""
    recalls = {
        name: figures.share(round(values["count"] * (values["recall"] or 0)), values["count"])
        for name, values in measurement["per_class"].items()
    }
    losses = logits.losses
    reach = figures.Z * float(losses.std(ddof=1)) / math.sqrt(len(losses)) if len(losses) > 1 else math.inf
    intervals = {
        "level": LEVEL,
        "method": METHOD,
        "accuracy": accuracy(logits)["interval"],
        "loss": [measurement["loss"] - reach, measurement["loss"] + reach],
        "recall": {name: [recall.low, recall.high] if recall else None for name, recall in recalls.items()},
    }
    return {**measurement, "intervals": intervals}


def show(measurement: dict[str, Any], lines: Sequence[str] = ()) -> None:
    """Prints a measurement as a table, and more lines below it."""
    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, emoji=False)
    table = Table("class", box=None, pad_edge=False)
    for name in ("examples", "recall", "95% interval", "precision"):
        table.add_column(name, justify="right")
    intervals = measurement.get("intervals", {})
    recalls = intervals.get("recall", {})
    for name, values in measurement["per_class"].items():
        recall, precision = ("-" if values[key] is None else f"{values[key]:.1%}" for key in ("recall", "precision"))
        bounds = recalls.get(name)
        between = f"{100 * bounds[0]:.1f} to {bounds[1]:.1%}" if bounds else "-"
        table.add_row(Text(printable(name)), f"{values['count']:,}", recall, between, precision)
    console.print(table)
    bounds = intervals.get("accuracy")
    between = f", {interval(*bounds)}" if bounds else ""
    examples = counted(measurement["examples"], f"{measurement['split']} example")
    summary = (
        f"step {measurement['step']}: {measurement['accuracy']:.2%} of {examples} right"
        f" (loss {measurement['loss']:.4f}{between})"
    )
    for line in (summary, *lines):
        console.print(printable(line), soft_wrap=True, markup=False)
    if note := measured.note(measurement["split"], measurement["chose_checkpoint"]):
        console.print(f"Note: {note}", soft_wrap=True, markup=False)
