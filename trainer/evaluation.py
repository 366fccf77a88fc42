"""Measures a checkpoint of a run on a split of its data set. `convoy evaluate` says how that is asked for."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convoy import exits, terminal
from convoy.counting import counted
from convoy.data.sources.examples import Examples
from convoy.outside import printable
from convoy.store import Store
from convoy.trainer.checkpoints import select
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import build
from convoy.trainer.outputs import measured
from convoy.trainer.processes import consensus
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import data_identity, opening


def measure(
    trained: RunConfig, store: Store, checkpoint: str, split: str, signals: Signals, download: bool
) -> dict[str, Any]:
    """The measurement as `eval` of result.json has it, with the step.

    Args:
      trained: the run's configuration, which this user stands for.
      store: the run's directory.
      checkpoint: last, best, or a step.
      split: a split of the data set; eval: the examples that chose the best checkpoint; auto: what a finished run is measured
        on.
      signals: requests to leave.
      download: that of data.opening.open_splits.
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
    sums = engine.evaluate(examples, lambda: consensus.stop_requested(engine, signals))
    assert sums is not None, "a signal leaves at once: there is nothing to save"
    measurement = sums.measurement(data.dataset.class_names, data.examples_per_class)
    chose = measured.chose(split, config.data.eval_split)
    return {"step": selected.step, "split": split, "chose_checkpoint": chose, **measurement}


def show(measurement: dict[str, Any]) -> None:
    """Prints a measurement as a table."""
    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, emoji=False)
    table = Table("class", box=None, pad_edge=False)
    for name in ("examples", "recall", "precision"):
        table.add_column(name, justify="right")
    for name, values in measurement["per_class"].items():
        ratios = ("-" if values[key] is None else f"{values[key]:.1%}" for key in ("recall", "precision"))
        table.add_row(Text(printable(name)), f"{values['count']:,}", *ratios)
    console.print(table)
    console.print(
        f"step {measurement['step']}: {measurement['accuracy']:.2%} of"
        f" {counted(measurement['examples'], measurement['split'] + ' example')} right (loss {measurement['loss']:.4f})",
        soft_wrap=True,
        markup=False,
    )
    if note := measured.note(measurement["split"], measurement["chose_checkpoint"]):
        console.print(f"Note: {note}", soft_wrap=True, markup=False)
