"""report.html: its figures are other libraries' too, it needs nothing else, and names on it do nothing."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from sklearn.calibration import calibration_curve

from convoy import exits
from convoy.data.config import DataConfig
from convoy.outside import MAX_DOCUMENT_BYTES
from convoy.store import open_store
from convoy.trainer import figures, paired
from convoy.trainer.paired import Guesses
from convoy.trainer.report import charts, comparison, page, pictures
from convoy.trainer.report.pictures import Pictures
from convoy.trainer.run_dir import opening
from run_pages import HOSTILE, Page, drawn, predicted, run_directory

pytestmark = pytest.mark.slow  # draws charts


@pytest.fixture(autouse=True)
def charts_are_not_drawn(request, monkeypatch):
    """But in the tests that are about charts: one takes a tenth of a second."""
    if "draws" not in request.fixturenames:
        blank = lambda draw, size, text, columns=1, named=False: charts.Chart("data:image/svg+xml;base64,", text)  # noqa: E731
        monkeypatch.setattr(charts, "_chart", blank)


@pytest.fixture
def draws():
    """Marks a test whose charts are drawn."""


def page_of(run_dir: Path) -> Page:
    store = open_store(str(run_dir))
    page.write(store, opening.trained_config(store, str(run_dir)).unchecked)
    data = (run_dir / "report.html").read_bytes()
    assert len(data) < 3_000_000
    found = Page(data.decode())
    assert not {"script", "link", "iframe", "object", "svg"} & {*found.tags}
    assert all(re.match("data:image/(svg[+]xml|png|jpeg);base64,", source) for source in found.sources)
    assert "default-src 'none'" in data.decode()
    return found


@pytest.mark.parametrize("classes", [2, 10, 150])
def test_figures_are_those_of_scikit_learn(classes):
    logits = predicted(classes)
    matrix = figures.confusion(logits, classes)
    np.testing.assert_array_equal(
        matrix, sklearn.metrics.confusion_matrix(logits.label, logits.guess, labels=range(classes))
    )
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
    for hits, total in ((0, 7), (7, 7), (1, 3), (123, 4567), (1, 10**6)):
        theirs = scipy.stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
        assert figures.share(hits, total)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_worst_mistakes_and_the_least_certain_are_those_of_the_logits():
    logits = predicted(10)
    losses = np.array([sklearn.metrics.log_loss([label], [row], labels=range(10)) for label, row in zip(
        logits.label, scipy.special.softmax(logits.logits.astype(np.float64), axis=1), strict=True)])  # fmt: skip
    wrong = np.flatnonzero(logits.guess != logits.label)
    worst = figures.worst(logits, 5)
    assert set(worst) <= set(wrong)
    assert sorted(losses[worst]) == pytest.approx(sorted(losses[wrong])[-5:])
    assert losses[worst].tolist() == sorted(losses[worst], reverse=True)
    unsure = figures.least_certain(logits, 5)
    assert logits.confidence[unsure].tolist() == sorted(logits.confidence)[:5]
    logits.logits[worst[0]] = np.nan
    logits = dataclasses.replace(logits)  # what follows from logits is computed once
    assert worst[0] not in figures.worst(logits, 5)
    assert worst[0] not in figures.least_certain(logits, 5)


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
def test_a_finished_run_has_its_figures_on_the_page(draws, tmp_path, classes):
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


def test_logits_that_are_not_finite_are_counted_and_left_out(draws, tmp_path):
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


def test_names_on_the_page_do_nothing(draws, tmp_path):
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


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    run_dir = run_directory(tmp_path / "run", ["a", "b"], None, finished=False)
    for name in ("dataset.json", "metrics.jsonl", "events.jsonl"):
        (run_dir / name).unlink()
    found = page_of(run_dir)
    assert "This run is not finished." in found.text
    assert found.sources == []


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


def test_a_page_is_the_same_each_time(draws, tmp_path):
    run_dir = run_directory(tmp_path / "run", ["a", "b", "c"], predicted(3))
    page_of(run_dir)
    first = (run_dir / "report.html").read_bytes()
    page_of(run_dir)
    assert (run_dir / "report.html").read_bytes() == first


@pytest.mark.parametrize(("side", "channels", "form"), [(8, 1, "png"), (48, 3, "png"), (128, 3, "jpeg")])
def test_a_page_shows_the_worst_mistakes_and_what_augmentation_does(tmp_path, side, channels, form):
    logits = predicted(10)
    found = page_of(run_directory(tmp_path / "run", list("abcdefghij"), logits, kept=drawn(side, channels)))
    shown = [source for source in found.sources if source.startswith(f"data:image/{form};")]
    assert len(shown) == 2 * pictures.EACH + 2 * 8
    row = figures.worst(logits, 1)[0]
    names, sure = "abcdefghij", logits.confidence[row]
    assert f"{names[logits.label[row]]}, taken for {names[logits.guess[row]]}, {sure:.0%} sure" in found.text
    assert "Worst mistakes" in found.text
    assert "Least certain" in found.text
    assert "--augment=none" in found.text


def test_a_right_example_that_is_unsure_is_not_called_a_mistake(tmp_path):
    found = page_of(run_directory(tmp_path / "run", ["cat", "dog"], predicted(2, skill=9.0), kept=drawn(8)))
    assert "Worst mistakes" not in found.text
    assert re.search(r"(cat|dog), \d+% sure", found.text)


@pytest.mark.parametrize("damage", [
    lambda data: b"",
    lambda data: data[:-9],
    lambda data: data.replace(b"'|u1'", b"'|i1'"),
    lambda data: Pictures(np.arange(3), *[np.zeros((3, 200, 8, 1), np.uint8)] * 3).to_bytes(),
    lambda data: Pictures(np.arange(2), *[np.zeros((3, 8, 8, 1), np.uint8)] * 3).to_bytes(),
    lambda data: Pictures(np.arange(30), *[np.zeros((30, 8, 8, 1), np.uint8)] * 3).to_bytes(),
    lambda data: Pictures(np.arange(3), *[np.zeros((3, 8, 8, 2), np.uint8)] * 3).to_bytes(),
])  # fmt: skip
def test_damaged_pictures_are_a_sentence_on_the_page(tmp_path, damage):
    run_dir = run_directory(tmp_path / "run", list("abc"), predicted(3), kept=drawn(8))
    data = (run_dir / "pictures.npz").read_bytes()
    (run_dir / "pictures.npz").write_bytes(damage(data))
    found = page_of(run_dir)
    assert "pictures.npz: the file" in found.text
    assert "and the page has no pictures" in found.text
    assert "Expected calibration error" in found.text


def test_the_data_are_summed_up(tmp_path):
    found = page_of(
        run_directory(
            tmp_path / "run", list("abc"), predicted(3), trained=[1200, 7, 0], data=DataConfig(balance="oversample")
        )
    )
    assert "1,207 training examples of 3 classes, 7 to 1,200 each; 1 class has none" in found.text
    assert "an epoch draws 40 of them, by --balance=oversample." in found.text
    assert "1 class has fewer than 10 training examples (b)" in found.text
    assert "training examples" in found.text
    same = page_of(run_directory(tmp_path / "same", list("abc"), predicted(3), trained=[50, 50, 50]))
    assert "150 training examples of 3 classes, 50 each." in same.text
    assert len(same.sources) == len(found.sources) - 1, "equal counts need no chart"


def test_a_count_of_other_classes_is_bad_data(tmp_path):
    run_dir = run_directory(tmp_path / "run", list("abc"), predicted(3), trained=[1, 2])
    with pytest.raises(exits.BadData, match="another number of classes"):
        page_of(run_dir)


# Comparisons


def compared(*run_dirs: Path) -> Page:
    runs = [
        (open_store(str(run_dir)), opening.trained_config(open_store(str(run_dir)), str(run_dir)).unchecked)
        for run_dir in run_dirs
    ]
    return Page(comparison.page(runs).decode())


def test_runs_are_compared_on_the_same_examples(draws, tmp_path):
    better, worse = predicted(10, skill=3.0), predicted(10, skill=2.0)
    first = run_directory(tmp_path / "first", list("abcdefghij"), worse, learning_rate=0.1)
    second = run_directory(tmp_path / "second", list("abcdefghij"), better, learning_rate=0.2, optimizer="sgd")
    result = json.loads((second / "result.json").read_text())
    (second / "result.json").write_text(json.dumps(result | {"eval": result["eval"] | {"accuracy": 0.9}}))
    found = compared(first, second)
    assert "second is the most accurate: 90.00% of 400\ntest examples right" in found.text
    rights = [logits.guess == logits.label for logits in (better, worse)]
    for count in ((rights[0] & ~rights[1]).sum(), (rights[1] & ~rights[0]).sum()):
        assert str(count) in found.text
    assert re.search(r"--learning_rate\s*0.1\s*0.2", found.text)
    assert re.search(r"--optimizer\s*adam\s*sgd", found.text)
    assert "--run_dir" not in found.text
    assert not {"script", "link", "iframe", "object", "svg"} & {*found.tags}


def test_runs_that_cannot_be_compared_say_so(tmp_path):
    one = run_directory(tmp_path / "one", ["a", "b"], predicted(2))
    other = run_directory(tmp_path / "other", ["a", "b"], predicted(2, examples=300))
    going = run_directory(tmp_path / "going", ["a", "b"], None, finished=False)
    found = compared(one, other, going)
    assert "not measured on the same examples" in found.text
    assert "not finished" in found.text
    assert "None of these runs is finished" in compared(going, going).text


def test_the_paired_test_is_that_of_two_libraries():
    # McNemar's exact test is the sign test of the pairs that differ; of SciPy's, the one-sample permutation is the same.
    first, second = predicted(10, skill=3.0), predicted(10, skill=2.5)
    found = paired.difference(Guesses.of_logits(first), Guesses.of_logits(second))
    signs = (first.guess == first.label).astype(int) - (second.guess == second.label)
    assert (found.first, found.second) == ((signs == 1).sum(), (signs == -1).sum())
    assert found.value == pytest.approx(signs.mean())
    tail = scipy.stats.binom.cdf(min(found.first, found.second), found.first + found.second, 0.5)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    reach = scipy.stats.norm.ppf(0.975) * signs.std() / np.sqrt(len(signs))
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))
    same, fewer = Guesses.of_logits(first), Guesses.of_logits(predicted(10, examples=399))
    assert paired.difference(same, same).p == 1.0
    assert paired.difference(same, fewer) is None


def test_holms_method_is_that_of_its_paper():
    # Holm 1979: the smallest is multiplied by 3, the next by 2, and none is below one before it.
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []


def test_names_of_runs_are_as_long_as_they_must_be():
    assert comparison.shortest_names(["a/x", "a/y/"]) == ["x", "y"]
    assert comparison.shortest_names(["a/run", "b/run"]) == ["a/run", "b/run"]
    assert comparison.shortest_names(["run", "run"]) == ["run (1)", "run (2)"]
