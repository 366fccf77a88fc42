"""`convoy evaluate`: its flags, and whose code it may import. trainer/evaluation.py measures.

`python -m convoy.trainer.verbs.evaluate FLAGS` is the measurement without its parent.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from convoy import destination, exits, options
from convoy.bounds import whole
from convoy.data.config import DataConfig
from convoy.data.corruptions.names import CORRUPTIONS, CorruptionsSpec
from convoy.data.sources import places
from convoy.options import option
from convoy.outside import printable
from convoy.store import open_store
from convoy.trainer import engines
from convoy.trainer.checkpoints.manager import find
from convoy.trainer.config import RunConfig
from convoy.trainer.evaluations.names import ADDITIONS, VIEWS
from convoy.trainer.flags import validation
from convoy.trainer.processes.signals import Signals
from convoy.trainer.run_dir import opening, trust
from convoy.trainer.run_dir.allowed_changes import differences
from convoy.verbs import ChildVerb

USAGE = """usage: convoy evaluate --run_dir=DIR [--flag=value ...]

Measures a checkpoint of a run and prints loss, accuracy, and recall and precision of every class, with 95 % intervals."""


def _also(name: str) -> str:
    row = ADDITIONS[name]
    return f"also {row.help}{f' ({row.source})' * bool(row.source)}."


def _check_corruptions(text: str) -> None:
    if text:
        CorruptionsSpec.parse(text)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What to measure."""

    run_dir: str = option("", "the run.", group="Evaluation")
    checkpoint: str = option("last", "last, best, or a step.", group="Evaluation", check=validation.check_checkpoint)
    split: str = option(
        "auto",
        "a split of the run's data set; eval: the examples that chose the best checkpoint; auto: test, or eval where there is"
        " no test split.",
        group="Evaluation",
    )
    dataset: str = option(
        "",
        "where the folder, the CSV or the records are now, if they have moved: folder:PATH, csv:FILE, records:PLACE. A data set"
        " of TFDS by its name, if it may be downloaded although you did not begin the run on this machine.",
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
    top_k: int = option(
        0,
        lambda: f"also {ADDITIONS['top_k'].help}, with its interval (0: off).",
        group="Also",
        within=whole(0, 1 << 31),
    )
    calibration: bool = option(False, lambda: _also("calibration"), group="Also")
    tta: str = option("none", lambda: f"{_also('tta')} {VIEWS.help()}.", group="Also", choices=("none", *VIEWS))
    corruptions: str = option(
        "",
        lambda: f"{_also('corruptions')} all, or some of {', '.join(CORRUPTIONS)}.",
        group="Also",
        check=_check_corruptions,
    )
    ood: str = option("", lambda: f"{_also('ood')} A data set, written as for --dataset.", group="Also")
    output: str = option("", "also write the measurement to this file, as JSON.", group="Evaluation")

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise exits.CannotRun("--run_dir is missing; give the directory of a run, for example runs/digits.")
        options.check(self)

    @property
    def additions(self) -> dict[str, Any]:
        """The rows of ADDITIONS that are asked for, with their flags' values."""
        values = {name: getattr(self, name) for name in ADDITIONS}
        return {name: value for name, value in values.items() if value not in (0, False, "", "none")}


def evaluate(config: EvaluateConfig, signals: Signals) -> tuple[dict[str, Any], list[str]]:
    """What trainer/evaluation.py measures: as JSON, and more lines for a person."""
    store = open_store(config.run_dir)
    stored = opening.trained_config(store, config.run_dir)
    destination.check("output", config.output)
    find(store, config.checkpoint)
    trained = trust.consented(stored, config.run_dir, config.model, config.trust_model_code)
    trained = _where_data_is(trained, config)
    download = bool(config.dataset or config.data_dir) or trust.own_place(stored)
    if download or not trained.data.dataset_spec.source.downloads:  # whose server a stranger may have named
        places.check(trained.data)
    engines.choose(trained.backend, trained.onednn)
    from convoy.trainer import evaluation  # imports Keras, which now has the right backend

    return evaluation.measure(trained, store, config.checkpoint, config.split, signals, download, config.additions)


def _where_data_is(trained: RunConfig, config: EvaluateConfig) -> RunConfig:
    """The run's configuration with the place where its data is now, and no more memory for it than by default."""
    given = {name: value for name in ("dataset", "data_dir") if (value := getattr(config, name))}
    moved = dataclasses.replace(trained, data=dataclasses.replace(trained.data, **given))
    if differences(trained, moved):
        raise exits.CannotRun(
            f"--dataset={config.dataset}, but the run in {config.run_dir} was begun on"
            f" {printable(trained.data.dataset)}; say where that is now, or leave it out."
        )
    if not moved.data.dataset_spec.source.has_place:
        return moved
    # What does not fit is decoded as it is drawn, which changes no number.
    cache_bytes = min(moved.data.cache_bytes, DataConfig().cache_bytes)
    return dataclasses.replace(moved, data=dataclasses.replace(moved.data, cache_bytes=cache_bytes))


def _parse(argv: list[str]) -> EvaluateConfig:
    return EvaluateConfig(**options.parse(argv, EvaluateConfig))


def _work(config: EvaluateConfig) -> None:
    signals = Signals()
    signals.install()
    measurement, lines = evaluate(config, signals)
    from convoy.trainer.evaluation import show

    show(measurement, lines)
    if config.output:
        try:
            with open(config.output, "w") as file:
                json.dump(measurement, file, indent=1)
        except OSError as error:
            raise destination.refusal("output", config.output, exits.reason(error)) from error


VERB = ChildVerb(USAGE, (EvaluateConfig,), _parse, _work, module="convoy.trainer.verbs.evaluate")

if __name__ == "__main__":
    VERB.child()
