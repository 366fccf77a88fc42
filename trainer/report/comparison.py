"""Writes the page that compares runs: results, curves, the flags that differ, and whether a difference is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from convoy import options
from convoy.data.config import DataConfig
from convoy.outside import printable
from convoy.store import Store
from convoy.trainer import figures, paired
from convoy.trainer.config import RunConfig
from convoy.trainer.figures import Share
from convoy.trainer.outputs import measured, records, template
from convoy.trainer.paired import Difference, Guesses
from convoy.trainer.report import charts
from convoy.trainer.report.page import predictions_of, result_of
from convoy.trainer.run_dir import dataset

# Of each run by itself: where it is, and what the machine was.
_OWN = ("run_dir", "devices", "hang_timeout", "restarts", "report")


class Compared(NamedTuple):
    """A run on the page.

    Attributes:
      name: what tells its directory from the others'.
      config: its flags.
      result: None of a run that is not finished.
      accuracy: with its interval; of a finished run whose predictions were kept.
      guesses: of the same.
      metrics: its records.
      missing: what there is to say of its predictions.
    """

    name: str
    config: RunConfig
    result: dict[str, Any] | None
    accuracy: Share | None
    guesses: Guesses | None
    metrics: list[dict[str, Any]]
    missing: str


class Test(NamedTuple):
    """A run against the best."""

    name: str
    difference: Difference | None
    corrected: float  # p, by Holm over all runs of the page


def page(runs: Sequence[tuple[Store, RunConfig]]) -> bytes:
    """The page, in UTF-8.

    Args:
      runs: two or more, in the order in which they were named.

    Raises:
      exits.BadData: a document of a run is damaged.
    """
    names = shortest_names([config.run_dir for _, config in runs])
    compared = [_read(name, store, config) for name, (store, config) in zip(names, runs, strict=True)]
    finished = [run for run in compared if run.result]
    # max keeps the first of equals.
    best = max(finished, key=lambda run: run.result["eval"]["accuracy"], default=None)  # type: ignore[index]
    curves = {run.name: run.metrics for run in compared}
    content = {
        "title": printable(f"{len(compared)} runs: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"),
        "runs": compared,
        "best": best,
        "splits": {measured.called(run.result["eval"]["split"]) for run in finished if run.result},
        "tests": _tests(best, finished) if best else [],
        "flags": differing([run.config for run in compared]),
        "curves": charts.overlaid(
            curves, "eval", ["loss", "accuracy"], "Loss and accuracy of evaluations by epoch, by run."
        ),
        "training": charts.overlaid(curves, "train", ["loss"], "Loss of training by epoch, by run."),
    }
    return template.filled(__package__, "comparison.html", content)


def differing(configs: Sequence[RunConfig]) -> list[tuple[str, list[str]]]:
    """(flag, its value in each run) of the flags that are not the same in all."""
    every = [config.to_dict() for config in configs]
    names = [field.name for field in options.fields(RunConfig, DataConfig) if field.name not in _OWN]
    return [
        (name, [printable(options.shortened(values[name], 60)) for values in every])
        for name in names
        if len({str(values[name]) for values in every}) > 1
    ]


def shortest_names(places: Sequence[str]) -> list[str]:
    """What tells directories apart: their last parts, as many as that needs."""
    parts = [place.rstrip("/").split("/") for place in places]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len({*names}) == len(names):
            return [printable(name) for name in names]
    return [f"{printable(name)} ({number})" for number, name in enumerate(names, 1)]


def _read(name: str, store: Store, config: RunConfig) -> Compared:
    result, described = result_of(store), dataset.read(store)
    logits, missing = predictions_of(store, result, len(described.class_names) if described else 0)
    # Not the logits: those of a sweep on many classes would fill the memory.
    accuracy, guesses = (figures.accuracy(logits), Guesses.of_logits(logits)) if logits else (None, None)
    return Compared(name, config, result, accuracy, guesses, records.read_metrics(store), missing)


def _tests(best: Compared, finished: Sequence[Compared]) -> list[Test]:
    others = [run for run in finished if run is not best]
    differences = [
        paired.difference(best.guesses, run.guesses) if best.guesses and run.guesses else None for run in others
    ]
    corrected = iter(paired.holm([each.p for each in differences if each]))
    return [
        Test(run.name, each, next(corrected) if each else 1.0) for run, each in zip(others, differences, strict=True)
    ]
