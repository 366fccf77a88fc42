"""report.html: its figures are other libraries' too, it needs nothing else, and names on it do nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from sklearn.calibration import calibration_curve

from convoy import exits
from convoy.outside import MAX_DOCUMENT_BYTES
from convoy.store import open_store
from convoy.trainer.config import RunConfig
from convoy.trainer.logits import Collector, Logits
from convoy.trainer.report import figures, page

pytestmark = pytest.mark.slow  # draws charts

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
    place: Path, names: list[str], logits: Logits | None, finished: bool = True, examples: int = 400
) -> Path:
    """What a run leaves, written by hand."""
    config = RunConfig(run_dir=str(place)).with_defaults()
    place.mkdir()
    (place / "config.json").write_bytes(config.to_json("0" * 32))
    described = {
        "schema": 1, "class_names": names, "image_shape": {"height": 8, "width": 8, "channels": 1},
        "preprocessing": {"image_size": 0, "divide_by": 255}, "splits": ["train", "test"], "epoch": 40,
    }  # fmt: skip
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
    return place


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


def page_of(run_dir: Path) -> Page:
    page.write(open_store(str(run_dir)), RunConfig(run_dir=str(run_dir)).with_defaults())
    data = (run_dir / "report.html").read_bytes()
    assert len(data) < 3_000_000
    found = Page(data.decode())
    assert not {"script", "link", "iframe", "object", "svg"} & {*found.tags}
    assert all(source.startswith("data:image/svg+xml;base64,") for source in found.sources)
    assert "default-src 'none'" in data.decode()
    return found


@pytest.mark.parametrize("classes", [2, 10, 150])
def test_figures_are_those_of_scikit_learn(classes):
    logits = predicted(classes)
    matrix = figures.confusion(logits, classes)
    found = figures.of_classes(logits, classes, classes)
    assert [each.recall.value for each in found if each.recall] == sorted(
        each.recall.value for each in found if each.recall
    )
    assert figures.of_classes(logits, classes, 2) == found[:2]
    found.sort(key=lambda each: each.label)
    precision, recall, _, examples = sklearn.metrics.precision_recall_fscore_support(
        logits.label, logits.guess, labels=range(classes), zero_division=np.nan
    )
    assert [each.examples for each in found] == examples.tolist()
    for ours, theirs in (("recall", recall), ("precision", precision)):
        shares = [getattr(each, ours) for each in found]
        np.testing.assert_allclose([share.value if share else np.nan for share in shares], theirs, rtol=1e-12)
    accuracy = figures.accuracy(logits)
    assert accuracy.value == pytest.approx(sklearn.metrics.accuracy_score(logits.label, logits.guess))
    assert 0 < accuracy.low < accuracy.value < accuracy.high < 1
    pairs = figures.worst_pairs(logits, 10)
    counts = sorted((matrix - np.diag(np.diag(matrix))).ravel().tolist(), reverse=True)
    assert [pair.examples for pair in pairs] == [count for count in counts[:10] if count]
    assert all(matrix[pair.label, pair.guess] == pair.examples and pair.label != pair.guess for pair in pairs)


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I, method 3.
    for hits, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert figures.share(hits, of)[1:] == pytest.approx((low, high), abs=5e-5)
    assert figures.share(0, 0) is None


def test_calibration_is_scikit_learns():
    logits = predicted(10, examples=4000)
    found = figures.calibration(logits)
    right, confidence = calibration_curve(
        logits.guess == logits.label, logits.confidence, n_bins=figures.BINS, strategy="uniform"
    )
    filled = found.examples > 0
    np.testing.assert_allclose(found.accuracy[filled], right, rtol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], confidence, rtol=1e-12)
    assert found.examples.sum() == 4000
    assert found.error == pytest.approx((np.abs(right - confidence) * found.examples[filled]).sum() / 4000, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 120, 1200])
def test_a_finished_run_has_its_figures_on_the_page(tmp_path, classes):
    names = [f"class {index}" for index in range(classes)]
    found = page_of(run_directory(tmp_path / "run", names, predicted(classes)))
    assert "75.00% of 400\ntest examples right; 95% interval" in found.text
    for words in ("Where the time went", "Most frequent mistakes", "Expected calibration error", "Recognised least first",
                  "1,234 examples", "convoy train", "1 attempt"):  # fmt: skip
        assert words in found.text
    assert found.tags.count("img") == 5 - (classes > 100)  # of more classes no matrix is drawn
    assert found.tags.count("details") == (classes > 100)


def test_more_classes_than_the_table_shows_are_counted_and_take_no_square_of_memory(tmp_path):
    names = [str(index) for index in range(40_000)]  # a matrix would take 12.8 GB
    found = page_of(run_directory(tmp_path / "run", names, predicted(40_000, examples=50)))
    assert "Another 39,000 classes are recognised better, or have no examples." in found.text


def test_predictions_may_be_larger_than_a_document(tmp_path):
    logits = predicted(800, examples=6000)
    run_dir = run_directory(tmp_path / "run", [str(index) for index in range(800)], logits, examples=6000)
    assert (run_dir / "predictions.npz").stat().st_size > MAX_DOCUMENT_BYTES
    assert "Expected calibration error" in page_of(run_dir).text


def test_logits_that_are_not_finite_are_counted_and_left_out(tmp_path):
    logits = predicted(3)
    logits.logits[5] = np.nan
    assert figures.calibration(logits).examples.sum() == 399
    assert (
        "The logits of 1 example are not finite" in page_of(run_directory(tmp_path / "run", list("abc"), logits)).text
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("result.json", lambda text: text.replace('"attempts": 1', '"attempts": "x"')),
        ("result.json", lambda text: text.replace('"mean_recall": 0.7', '"mean_recall": []')),
        ("result.json", lambda text: text.replace('{"keras": "3"}', "7")),
        ("result.json", lambda text: text.replace('"noise_scale": 1234.0', '"noise_scale": "x"')),
        ("metrics.jsonl", lambda text: text.replace('"learning_rate": 0.1', '"learning_rate": "x"')),
        ("events.jsonl", lambda text: text.replace('"steps": 12.0', '"steps": "x"')),
        ("dataset.json", lambda text: text[:-1]),
    ],
)
def test_a_damaged_document_is_a_sentence(tmp_path, name, damage):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], predicted(2))
    text = (run_dir / name).read_text()
    (run_dir / name).write_text(damage(text))
    assert damage(text) != text
    with pytest.raises(exits.BadData, match=name):
        page_of(run_dir)
    assert not (run_dir / "report.html").exists()


def test_names_on_the_page_do_nothing(tmp_path):
    found = page_of(run_directory(tmp_path / "run", HOSTILE, predicted(len(HOSTILE))))
    for name in HOSTILE[:4]:
        assert name in found.text, "as it is written"
    assert "\x1b" not in found.text
    assert "\u202e" not in found.text
    assert "é 猫" in found.text


def test_a_run_that_is_not_finished_says_how_it_continues(tmp_path):
    found = page_of(run_directory(tmp_path / "run", ["a", "b"], None, finished=False))
    assert re.search(r"not finished. It continues with\s+convoy train .*--run_dir=", found.text)
    assert "Where the time went" in found.text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_a_page_without_predictions_says_why(tmp_path, damage):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], predicted(2))
    if damage is None:
        (run_dir / "predictions.npz").unlink()
    else:
        (run_dir / "predictions.npz").write_bytes(damage)
    found = page_of(run_dir)
    assert ("An older version" if damage is None else "remove it, and measure the run again") in found.text
    assert "75.00%" in found.text
    assert "calibration" not in found.text


def test_a_page_is_the_same_each_time(tmp_path):
    run_dir = run_directory(tmp_path / "run", ["a", "b", "c"], predicted(3))
    page_of(run_dir)
    first = (run_dir / "report.html").read_bytes()
    page_of(run_dir)
    assert (run_dir / "report.html").read_bytes() == first
