"""Run directories written by hand, and pages read again, for tests of what a run shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from convoy.trainer import figures
from convoy.trainer.config import RunConfig
from convoy.trainer.logits import Collector, Logits
from convoy.trainer.report import pictures
from convoy.trainer.report.pictures import Pictures

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=http://x onerror=y>',
    "{{ 7*7 }}",
    "$\\frac{1}",
    "\x1b[31mred\u202e",
    "é 猫",
]


def predicted(classes: int, examples: int = 400, skill: float = 3.0) -> Logits:
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes, examples, dtype=np.int32)
    every = generator.standard_normal((examples, classes)).astype(np.float32)
    every[np.arange(examples), labels] += skill
    collector = Collector(labels)
    collector(np.arange(examples), every)
    return collector.logits()


def run_directory(
    place: Path,
    names: list[str],
    logits: Logits | None,
    finished: bool = True,
    examples: int = 400,
    trained: list[int] | None = None,
    kept: Callable[[Logits], Pictures] | None = None,
    **flags: object,
) -> Path:
    """What a run leaves, written by hand."""
    config = RunConfig(run_dir=str(place), **flags).with_defaults()
    place.mkdir()
    (place / "config.json").write_bytes(config.to_json("0" * 32))
    described = {
        "schema": 1, "class_names": names, "image_shape": {"height": 8, "width": 8, "channels": 1},
        "preprocessing": {"image_size": 0, "divide_by": 255}, "splits": ["train", "test"], "epoch": 40,
    }  # fmt: skip
    if trained:
        described["examples_per_class"] = trained
    (place / "dataset.json").write_text(json.dumps(described))
    common = {"step": 5, "epoch": 1.0, "examples": 40, "learning_rate": 0.1, "images_per_second": 100.0}
    records = [{**common, "split": split, "loss": 1.5, "accuracy": 0.5} for split in ("train", "eval")]
    (place / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    start = {"event": "start", "attempt": 1, "time": 10.0, "began": 1.0}
    spent = {"event": "spent", "attempt": 1, "time": 30.0, "step": 5, "seconds": {"steps": 12.0}}
    (place / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (start, spent)))
    if finished:
        measured = {"split": "test", "examples": examples, "accuracy": 0.75, "loss": 0.5, "mean_recall": 0.7}
        train = {"images_per_second": 100.0, "noise_scale": 1234.0}
        result = {"step": 5, "epoch": 1.0, "examples": 40, "wall_seconds": 2.0, "attempts": 1, "train": train, "eval": measured,
                  "versions": {"keras": "3"}}  # fmt: skip
        (place / "result.json").write_text(json.dumps(result))
    if logits:
        (place / "predictions.npz").write_bytes(logits.to_bytes())
        if kept:
            (place / "pictures.npz").write_bytes(kept(logits).to_bytes())
    return place


def drawn(side: int, channels: int = 1) -> Callable[[Logits], Pictures]:
    """Pictures of what a page of these logits shows."""

    def kept(logits: Logits) -> Pictures:
        rows = np.union1d(figures.worst(logits, pictures.EACH), figures.least_certain(logits, pictures.EACH))
        generator = np.random.default_rng(side)
        images = generator.integers(0, 256, (len(rows), side, side, channels), np.uint8)
        return Pictures(logits.index[rows], images, images[:8], 255 - images[:8])

    return kept


class Page(HTMLParser):
    """The tags of a page, with what each holds; AssertionError for one that is not closed."""

    EMPTY = {"meta", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag == "img":
            assert dict(attributes)["alt"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
