"""Writes report.html from what stands in a run directory. docs/report.md says what is on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from convoy import exits
from convoy.counting import counted
from convoy.data import memory
from convoy.outside import printable
from convoy.store import Store
from convoy.trainer import figures
from convoy.trainer.config import RunConfig
from convoy.trainer.logits import Logits, most_bytes
from convoy.trainer.outputs import alerts, goodput, measured, records, template
from convoy.trainer.report import charts, facts, pictures
from convoy.trainer.report.pictures import Pictures
from convoy.trainer.run_dir import commands, dataset
from convoy.trainer.run_dir.files import PICTURES, PREDICTIONS, REPORT
from convoy.trainer.run_dir.finished import read_result

PAIRS = 10  # of classes that are mistaken
CLASSES = 1000  # in the table


@dataclasses.dataclass(frozen=True)
class Example:
    """An example with its picture."""

    picture: str
    index: int
    text: str


def write(store: Store, config: RunConfig) -> None:
    """Writes the page of a run into its directory; see `page`."""
    store.put(REPORT, page(store, config))


def page(store: Store, config: RunConfig) -> bytes:
    """The page of a run, finished or not: HTML in UTF-8.

    Args:
      store: the run's directory.
      config: the run's.

    Raises:
      exits.BadData: a document of the run is damaged. Damaged predictions are a sentence on the page.
    """
    return template.filled(__package__, "page.html", _content(store, config))


def _content(store: Store, config: RunConfig) -> dict[str, Any]:
    result, described = result_of(store), dataset.read(store)
    names = tuple(map(printable, described.class_names)) if described else ()
    logits, missing = predictions_of(store, result, len(names))
    metrics, events = records.read_metrics(store), records.read_events(store)
    spent = goodput.summarize(events, events[-1]["time"] if events else 0.0)["seconds"]
    kept, unkept = _pictures(store, logits)
    trained = described.examples_per_class if described else ()
    seen = alerts.Seen.from_records(metrics, names, trained, (logits.label, logits.guess) if logits else None)
    notes = [facts.of_measurement(result, config), missing, unkept]
    notes += map(printable, [*alerts.sentences(seen), facts.of_input(spent, config)])
    content: dict[str, Any] = {
        "title": template.title(config),
        "result": result,
        "split": measured.called(result["eval"]["split"]) if result else "",
        "notes": [note for note in notes if note],
        "facts": facts.of_result(result),
        "names": names,
        "trained": trained,
        "command": printable(commands.train(config)),
        "made": facts.of_making(result, config),
        "curves": charts.lines(metrics, [("loss", "loss"), ("accuracy", "accuracy")], "Loss and accuracy by epoch."),
        "rates": charts.lines(
            metrics,
            [("learning_rate", "learning rate"), ("images_per_second", "images/s"), ("noise_scale", "noise scale")],
            "Learning rate and images per second by epoch.",
        ),
        "time": charts.shares(spent, "Seconds of the run by what they were spent on."),
        "data": facts.of_data(described, config),
        "balance": charts.balance(trained, "Training examples of each class, the most first."),
        "augment": printable(config.data.augment),
        "augmented": _augmented(kept),
        **dict.fromkeys(("accuracy", "matrix", "calibration", "reliability")),
        **dict.fromkeys(("pairs", "classes", "worst", "uncertain"), ()),
    }
    if logits:
        content |= _predicted(logits, names)
    if logits and kept:
        content |= _examples(logits, kept, names)
    return content


def _predicted(logits: Logits, names: Sequence[str]) -> dict[str, Any]:
    """What follows from the predictions."""
    calibration, matrix = figures.calibration(logits), None
    if len(names) <= charts.DRAWN:
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


def _examples(logits: Logits, kept: Pictures, names: Sequence[str]) -> dict[str, Any]:
    """The examples that have pictures."""

    def shown(rows: np.ndarray) -> list[Example]:
        index, confidence = logits.index[rows], logits.confidence[rows]
        return [
            Example(picture, int(place), _said(names[label], names[guess], sure))
            for picture, place, label, guess, sure in zip(
                kept.sources(index), index, logits.label[rows], logits.guess[rows], confidence, strict=True
            )
            if picture
        ]

    worst, uncertain = figures.worst(logits, pictures.EACH), figures.least_certain(logits, pictures.EACH)
    return {"worst": shown(worst), "uncertain": shown(uncertain)}


def _said(label: str, guess: str, confidence: float) -> str:
    if label == guess:
        return f"{label}, {confidence:.0%} sure"
    return f"{label}, taken for {guess}, {confidence:.0%} sure"


def _augmented(kept: Pictures | None) -> list[tuple[str, str]]:
    """Pairs of pictures: a training example, and what --augment made of it."""
    if not kept:
        return []
    return [
        (pictures.data_uri(original), pictures.data_uri(changed))
        for original, changed in zip(kept.originals, kept.augmented, strict=True)
    ]


def result_of(store: Store) -> dict[str, Any] | None:
    """The result of a run; None of one that is not finished."""
    try:
        return read_result(store)
    except FileNotFoundError:
        return None


def predictions_of(store: Store, result: dict[str, Any] | None, classes: int) -> tuple[Logits | None, str]:
    """The predictions of a finished run, and a sentence about what is missing of them."""
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
    if odd := int((~np.isfinite(logits.log_sum)).sum()):
        return logits, f"The logits of {counted(odd, 'example')} are not finite; they are in no figure of confidence."
    return logits, ""


def _pictures(store: Store, logits: Logits | None) -> tuple[Pictures | None, str]:
    """The pictures that a run has kept, and a sentence where they are damaged."""
    if not logits:
        return None, ""
    try:
        data = store.get(PICTURES, max_bytes=pictures.MOST_BYTES)
        return Pictures.from_bytes(data, f"{store.url}/{PICTURES}"), ""
    except FileNotFoundError:
        return None, ""
    except exits.BadData as error:
        return None, printable(str(error))
