"""Writes report.html from what stands in a run directory. docs/report.md says what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from convoy import exits
from convoy.counting import counted
from convoy.data import memory
from convoy.outside import printable
from convoy.store import Store
from convoy.trainer.config import RunConfig
from convoy.trainer.logits import Logits, most_bytes
from convoy.trainer.outputs import goodput, measured, records
from convoy.trainer.report import charts, figures
from convoy.trainer.run_dir import commands, dataset
from convoy.trainer.run_dir.files import PREDICTIONS, REPORT
from convoy.trainer.run_dir.finished import read_result

PAIRS = 10  # of classes that are mistaken
DRAWN = 100  # classes of which a matrix is drawn: of more it cannot be read
CLASSES = 1000  # in the table


def write(store: Store, config: RunConfig) -> None:
    """Writes the page of a run, finished or not.

    Args:
      store: the run's directory.
      config: the run's.

    Raises:
      exits.BadData: a document of the run is damaged. Damaged predictions are a sentence on the page.
    """
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(_content(store, config))
    store.put(REPORT, page.encode("utf-8", "backslashreplace"))


def _content(store: Store, config: RunConfig) -> dict[str, Any]:
    result, described = _result(store), dataset.read(store)
    names = tuple(map(printable, described.class_names)) if described else ()
    logits, missing = _logits(store, result, len(names))
    metrics, events = records.read_metrics(store), records.read_events(store)
    spent = goodput.summarize(events, events[-1]["time"] if events else 0.0)["seconds"]
    content: dict[str, Any] = {
        "title": printable(f"{config.model} on {config.data.dataset}: {config.run_dir}"),
        "result": result,
        "split": measured.called(result["eval"]["split"]) if result else "",
        "accuracy": None,
        "notes": [note for note in (_chose(result, config), missing) if note],
        "facts": _facts(result),
        "names": names,
        "command": printable(commands.train(config)),
        "made": _made(result, config),
        "curves": charts.lines(metrics, [("loss", "loss"), ("accuracy", "accuracy")], "Loss and accuracy by epoch."),
        "rates": charts.lines(
            metrics,
            [("learning_rate", "learning rate"), ("images_per_second", "images/s"), ("noise_scale", "noise scale")],
            "Learning rate and images per second by epoch.",
        ),
        "time": charts.shares(spent, "Seconds of the run by what they were spent on."),
        **dict.fromkeys(("matrix", "calibration", "reliability")),
        "pairs": [],
        "classes": [],
    }
    return content | _predictions(logits, names) if logits else content


def _predictions(logits: Logits, names: Sequence[str]) -> dict[str, Any]:
    """What follows from the predictions."""
    calibration, matrix = figures.calibration(logits), None
    if len(names) <= DRAWN:
        confusion = figures.confusion(logits, len(names))
        matrix = charts.matrix(confusion, names, "How often examples of a class, by row, were taken for each class.")
    return {
        "accuracy": figures.accuracy(logits),
        "matrix": matrix,
        "pairs": figures.worst_pairs(logits, PAIRS),
        "classes": figures.of_classes(logits, len(names), CLASSES),
        "calibration": calibration,
        "reliability": charts.reliability(calibration, "Accuracy by confidence, and the number of examples."),
    }


def _result(store: Store) -> dict[str, Any] | None:
    try:
        return read_result(store)
    except FileNotFoundError:
        return None


def _logits(store: Store, result: dict[str, Any] | None, classes: int) -> tuple[Logits | None, str]:
    """The predictions of a finished run, or why there are none."""
    if not result:
        return None, ""
    try:
        data = store.get(
            PREDICTIONS, max_bytes=min(most_bytes(result["eval"]["examples"], classes), memory.size() // 4)
        )
        logits = Logits.from_bytes(data, classes, f"{store.url}/{PREDICTIONS}")
    except FileNotFoundError:
        return None, "An older version ended this run, which kept no predictions: there are no mistakes to show."
    except exits.BadData as error:
        return None, printable(str(error))
    odd = int((~np.isfinite(logits.log_sum)).sum())
    return logits, f"The logits of {counted(odd, 'example')} are not finite; they are in no figure of confidence." * (
        odd > 0
    )


def _chose(result: dict[str, Any] | None, config: RunConfig) -> str:
    """The note that a measurement needs."""
    if not result:
        return ""
    split = result["eval"]["split"]
    return measured.note(split, measured.chose(split, config.data.eval_split)).capitalize()


def _facts(result: dict[str, Any] | None) -> list[tuple[str, str]]:
    if not result:
        return []
    evaluated, train = result["eval"], result["train"]
    facts = [("loss", f"{evaluated['loss']:.4f}")]
    if "top5_accuracy" in evaluated:
        facts.append(("among the five most probable", f"{evaluated['top5_accuracy']:.2%}"))
    if evaluated.get("mean_recall") is not None:
        facts.append(("mean recall of the classes", f"{evaluated['mean_recall']:.2%}"))
    facts.append(("epochs", f"{result['epoch']:.4g}, {result['step']:,} steps"))
    facts.append(("time", f"{result['wall_seconds']:,.0f} s in {counted(result.get('attempts', 1), 'attempt')}"))
    if train["images_per_second"]:
        facts.append(("images/s in training", f"{train['images_per_second']:,.0f}"))
    if train.get("noise_scale") is not None:
        facts.append(("gradient noise scale", f"{train['noise_scale']:,.0f} examples"))
    return facts


def _made(result: dict[str, Any] | None, config: RunConfig) -> list[tuple[str, str]]:
    rows = [("backend", config.backend), ("devices", config.devices), ("seed", str(config.seed))]
    if result:
        rows += [(name, str(version)) for name, version in (result.get("versions") or {}).items()]
    return [(name, printable(value)) for name, value in rows]
