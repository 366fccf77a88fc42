"""`convoy evaluate`: measures a checkpoint of a run on a split of its data set.

`python -m convoy.trainer.verbs.evaluate FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any

from convoy import exits, options, supervise, terminal
from convoy.data.config import DataConfig
from convoy.options import option
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer import config as configuration
from convoy.trainer import engines
from convoy.trainer.config import RunConfig
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import trust
from convoy.trainer.run_dir.files import CONFIG

USAGE = """usage: convoy evaluate --run_dir=DIR [--flag=value ...]

Measures a checkpoint of a run and prints loss, accuracy, and recall and precision of every class."""


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What to measure."""

    run_dir: str = option("", "the run.", group="Evaluation")
    checkpoint: str = option("last", "last, best, or a step.", group="Evaluation")
    split: str = option(
        "test",
        "a split of the run's data set, or eval: the examples that chose the best checkpoint.",
        group="Evaluation",
    )
    dataset: str = option(
        "",
        "where the folder or the records are now, if they have moved: folder:PATH, records:PLACE. A data set of TFDS by its"
        " name, if it may be downloaded although you did not begin the run on this machine.",
        group="Evaluation",
    )
    data_dir: str = option("", "where the data set is now, if it has moved.", group="Evaluation")
    model: str = option(
        "",
        "the run's own package.module:function, given again: this imports your module of that name, which without it is"
        " imported only for runs that you began on this machine, while the module's file is as it was.",
        group="Evaluation",
    )
    trust_model_code: bool = option(
        False,
        "import whatever Python code the run directory names, wherever that comes from; it runs with your rights.",
        group="Evaluation",
    )
    output: str = option("", "also write the measurement to this file, as JSON.", group="Evaluation")

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
        options.check(self)
        if not re.fullmatch("last|best|[0-9]{1,12}", self.checkpoint):
            raise options.impossible("checkpoint", self.checkpoint, "give last, best or a step")


def evaluate(config: EvaluateConfig, signals: Signals) -> dict[str, Any]:
    """The measurement as `eval` of result.json has it, with the step."""
    from convoy.trainer import run

    store = open_store(config.run_dir)
    try:
        text = store.get(CONFIG)
    except FileNotFoundError:
        raise exits.CannotRun(f"--run_dir={config.run_dir} is no run: it has no {CONFIG}.") from None
    found = configuration.from_json(text, f"{config.run_dir}/{CONFIG}")
    trained = trust.consented(found, config.run_dir, config.model, config.trust_model_code)
    trained = _where_data_is(trained, config)
    backend = engines.choose(trained.backend)
    import numpy as np

    from convoy.data import splits
    from convoy.data.balance import draws_per_class
    from convoy.data.identity import Identity
    from convoy.data.sources import open_dataset
    from convoy.trainer.checkpoints import select
    from convoy.trainer.run_dir import data_identity

    checkpoint, tensors, _ = select(store, config.checkpoint)
    # The machine may be another one than it was trained on; one device is enough and fits every batch size.
    runtime = backend.prepare(dataclasses.replace(trained, devices="auto", strategy="one", xla="auto"), alone=True)
    here = runtime.config
    asked = bool(config.dataset or config.data_dir)
    dataset = open_dataset(here.data, download=asked or trust.own_place(found))
    train, held_out = splits.train_and_eval(here.data, dataset)
    data_identity.refuse_other_data(
        here, Identity(len(train), dataset.class_names, dataset.origin), data_identity.known(store)
    )
    counts = np.bincount(train.labels, minlength=len(dataset.class_names))
    examples = held_out if config.split == "eval" else dataset.split(config.split)
    if examples is None:
        raise exits.CannotRun("--split=eval, but the run held no examples out (--eval_split=none); give another split.")
    engine = backend.Engine(runtime, dataset.image_shape, draws_per_class(counts, here.data.balance))
    signals.install()
    run.refuse_other_model(engine, tensors, here)
    engine.restore(tensors)
    sums = engine.evaluate(examples, lambda: engine.any(signals.asked))
    assert sums is not None, "a signal leaves at once: there is nothing to save"
    return {
        "step": checkpoint.step,
        "split": config.split,
        **sums.measurement(dataset.class_names, counts),
    }


def _where_data_is(trained: RunConfig, config: EvaluateConfig) -> RunConfig:
    """The run's configuration with the place where its data is now, and no more memory for it than by default."""
    given = {name: value for name in ("dataset", "data_dir") if (value := getattr(config, name))}
    moved = dataclasses.replace(trained, data=dataclasses.replace(trained.data, **given))
    if configuration.differences(trained, moved):
        raise exits.CannotRun(
            f"--dataset={config.dataset}, but the run in {config.run_dir} was begun on"
            f" {printable(trained.data.dataset)}; say where that is now, or leave it out."
        )
    if not moved.data.has_place:
        return moved
    # What does not fit is decoded as it is drawn, which changes no number.
    cache_bytes = min(moved.data.cache_bytes, DataConfig().cache_bytes)
    return dataclasses.replace(moved, data=dataclasses.replace(moved.data, cache_bytes=cache_bytes))


def show(measured: dict[str, Any]) -> None:
    """The measurement as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=terminal.unguarded(sys.stdout), highlight=False, emoji=False)
    table = Table("class", box=None, pad_edge=False)
    for name in ("examples", "recall", "precision"):
        table.add_column(name, justify="right")
    for name, values in measured["per_class"].items():
        ratios = ("-" if values[key] is None else f"{values[key]:.1%}" for key in ("recall", "precision"))
        table.add_row(Text(printable(name)), f"{values['count']:,}", *ratios)
    console.print(table)
    console.print(
        f"step {measured['step']}: {measured['accuracy']:.2%} of {measured['examples']:,} {measured['split']} examples right"
        f" (loss {measured['loss']:.4f})",
        soft_wrap=True,
        markup=False,
    )


def main(argv: list[str]) -> int:
    if options.wants_help(argv):
        print(options.help_text(USAGE, EvaluateConfig))
        return exits.OK
    _parse(argv)
    return supervise.run(supervise.module("convoy.trainer.verbs.evaluate", argv))


def child(argv: list[str]) -> int:
    signals = Signals()
    signals.install()
    supervise.follow_parent()
    config = _parse(argv)
    measured = evaluate(config, signals)
    show(measured)
    if config.output:
        try:
            with open(config.output, "w") as file:
                json.dump(measured, file, indent=1)
        except OSError as error:
            raise exits.CannotRun(f"--output={config.output} cannot be written: {error.strerror}.") from error
    return exits.OK


def _parse(argv: list[str]) -> EvaluateConfig:
    return EvaluateConfig(**options.parse(argv, EvaluateConfig))


if __name__ == "__main__":
    exits.call(lambda: child(sys.argv[1:]))
