"""Predictions: what an evaluation shows the model, counted as it counts, for any file, without the data set."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from convoy import exits
from convoy.cli import dispatch
from convoy.data.config import DataConfig
from convoy.data.images.listing import ImageFile, image_files
from convoy.data.unlabelled import Shown
from convoy.trainer import predict as prediction
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import open_run
from convoy.trainer.predictions import Guess, Prediction, Predictions
from convoy.trainer.run import run
from convoy.trainer.run_dir.dataset import Preprocessing
from support import result_of, write_images

pytestmark = pytest.mark.slow


def train(run_dir: Path, data: DataConfig, **flags) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
        run(RunConfig(str(run_dir), data, report=False, **flags))


def counted(predictions: list[Prediction], labels: list[str]) -> dict:
    """What an evaluation says per class, from predictions."""
    names = sorted({*labels, *(p.name for p in predictions)})
    pairs = [(p.name, label) for p, label in zip(predictions, labels, strict=True)]
    hits = {name: sum(guess == label == name for guess, label in pairs) for name in names}
    return {name: (labels.count(name), hits[name], sum(guess == name for guess, _ in pairs)) for name in names}


def assert_counts_like_the_evaluation(
    run_dir: Path, folder: Path, label_of: Callable[[Path], str], batch_size: int
) -> None:
    files = image_files([str(folder)])
    predictions = list(prediction.predict(open_run(str(run_dir)), files, 3, batch_size, False))
    paths = sorted(path for path in folder.rglob("*.*g"))
    assert [p.file for p in predictions] == list(map(str, paths))
    measured = result_of(run_dir)["eval"]
    assert measured["examples"] == len(paths) > batch_size
    labels = list(map(label_of, paths))
    assert (
        sum(p.name == label for p, label in zip(predictions, labels, strict=True)) / len(paths) == measured["accuracy"]
    )
    for label, (count, hit, of_these) in counted(predictions, labels).items():
        entry = measured["per_class"][label]
        assert (entry["count"], entry["recall"]) == (count, hit / count)
        assert entry["precision"] == (hit / of_these if of_these else None)
    probabilities = [[guess.probability for guess in p.guesses] for p in predictions]
    assert all(each == sorted(each, reverse=True) and 0 < sum(each) < 1 + 1e-12 for each in probabilities)


def test_predictions_count_as_the_evaluation_did(digits):
    assert_counts_like_the_evaluation(digits / "run", digits / "new", lambda path: path.stem[-1], 64)


@pytest.mark.thorough
def test_predictions_count_as_the_evaluation_of_photographs_did(tmp_path):
    for split, each in (("train", 6), ("test", 5)):
        write_images(tmp_path / "photos" / split, ("cat", "dog"), each=each, first=each)
    data = DataConfig(f"folder:{tmp_path / 'photos'}", image_size=8, eval_split="none")
    train(tmp_path / "run", data, batch_size=4, duration="3st", ema=0.5)
    shutil.move(tmp_path / "photos" / "test", tmp_path / "test")
    shutil.rmtree(tmp_path / "photos")
    assert_counts_like_the_evaluation(tmp_path / "run", tmp_path / "test", lambda path: path.parent.name, 3)


def test_the_softmax_neither_overflows_nor_rounds_to_float32():
    assert prediction.softmax(np.array([[1e4, 0, -1e4]], np.float32)).tolist() == [[1, 0, 0]]
    logits = np.array([[1.5, -2.25, 0.125]], np.float32)
    powers = [math.exp(1.5), math.exp(-2.25), math.exp(0.125)]
    assert prediction.softmax(logits)[0] == pytest.approx([power / math.fsum(powers) for power in powers], rel=1e-15)


def test_tta_averages_the_probabilities_of_an_image_and_its_mirror_image():
    images = np.random.default_rng(1).integers(0, 256, (3, 2, 4, 1), np.uint8)
    plain, averaged = (
        prediction.probabilities_by(lambda x: x[:, 0, :, 0].astype(np.float32) / 99, tta) for tta in (False, True)
    )
    assert np.array_equal(averaged(images), (plain(images) + plain(images[:, :, ::-1])) / 2)
    assert not np.array_equal(averaged(images), plain(images))


# From images to predictions, without a pipeline


@pytest.fixture
def predict(monkeypatch):
    """predict(forward) -> predictions of the files a to d in two batches; b and d cannot be read."""

    def shown(*args):
        images = np.zeros((3, 2, 2, 3), np.uint8)
        files = [ImageFile("a"), ImageFile("b", "is bad"), ImageFile("c")]
        yield Shown(files, np.array([0, 2, -1]), images)
        yield Shown([ImageFile("d", "is bad")], np.array([-1, -1, -1]), images)

    monkeypatch.setattr(prediction, "images_shown", shown)

    def call(forward, batch_size=3, shape=(2, 2, 3)):
        monkeypatch.setattr("convoy.trainer.engines.tensorflow.forward", lambda model: forward)
        config = SimpleNamespace(backend="tensorflow", run_dir="runs/x")
        opened = SimpleNamespace(
            config=config, model=None, class_names=("cat", "dog"), image_shape=shape, preprocessing=Preprocessing(2)
        )
        return list(prediction.predict(opened, [], 9, batch_size, False))

    return call


def test_every_file_gets_its_own_prediction(predict):
    logits = np.array([[0, 0], [math.log(3), 0], [np.nan, 9]], np.float32)
    a, b, c, d = predict(lambda images: logits)
    assert (a.file, a.guesses) == ("a", (Guess("cat", 0, 0.5), Guess("dog", 1, 0.5))), "of equal ones the first"
    assert [guess.name for guess in c.guesses] == ["cat", "dog"]
    assert c.probability == pytest.approx(0.75)
    assert (b, d) == (Prediction("b", error="is bad"), Prediction("d", error="is bad"))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_no_prediction(predict, wrong):
    a, _, c, _ = predict(lambda images: np.array([[1, wrong], [2, 1], [0, 0]], np.float32))
    assert a.error == "cannot be classified: the model returns no finite numbers for it"
    assert c.name == "cat"


def test_what_a_device_or_a_run_cannot_do_is_said(predict, monkeypatch):
    def exhausted(images):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    with pytest.raises(exits.CannotRun, match="out of memory with --batch_size=3; give a smaller one"):
        predict(exhausted)
    with pytest.raises(exits.CannotRun, match="runs/x have 2 channels, and files give 1 or 3"):
        predict(exhausted, shape=(2, 2, 2))
    monkeypatch.setattr("convoy.data.memory.os.sysconf", lambda name: 100)
    with pytest.raises(exits.CannotRun, match="--batch_size=1048576 is not possible here"):
        predict(exhausted, batch_size=1 << 20)


# The command, without its processes and without a model

CANNED = {
    "good.png": Prediction("good.png", (Guess("cat", 0, 0.75), Guess("dog", 1, 0.25))),
    "bad.png": Prediction("bad.png", error="cannot be decoded: it is no image"),
    '\udcff, "a"\n.png': Prediction('\udcff, "a"\n.png', (Guess("dog", 1, 1.0), Guess("cat", 0, 1 / 3))),
}


@pytest.fixture
def canned(monkeypatch, digits):
    """The flags of a run that has these predictions, whatever there is in these files; it prints while it is opened."""

    def opening(*args):
        print("noise")
        return SimpleNamespace(class_names=("cat", "dog"))

    def predict(opened, files, top, *how):
        for file in files:
            answer = CANNED.get(file.path, CANNED["good.png"])
            yield dataclasses.replace(answer, file=file.path, guesses=answer.guesses[:top])

    monkeypatch.setattr(prediction, "open_run", opening)
    monkeypatch.setattr(prediction, "predict", predict)
    return f"--run_dir={digits / 'run'}"


def command(*argv: object) -> int:
    """`convoy predict` in this process."""
    from convoy.trainer.verbs.predict import VERB

    return VERB.work(VERB.parse(list(map(str, argv))))


def test_lines_of_json(canned, tmp_path, capsys):
    assert command(canned, "--json", *CANNED) == 0
    out, err = capsys.readouterr()
    assert [Prediction.from_json(line, "stdout") for line in out.splitlines()] == list(CANNED.values())
    assert json.loads(out.splitlines()[0]) == {
        "file": "good.png",
        "classes": [{"name": "cat", "index": 0, "probability": 0.75}, {"name": "dog", "index": 1, "probability": 0.25}],
    }
    assert json.loads(out.splitlines()[1]) == {"file": "bad.png", "error": "cannot be decoded: it is no image"}
    assert err == ("noise\nconvoy: 1 of the 3 files could not be read; bad.png cannot be decoded: it is no image.\n"), (
        "what the run's code prints does not stand among the predictions"
    )
    assert command(canned, "--json", f"--out={tmp_path / 'out'}", *CANNED) == 0
    assert (tmp_path / "out").read_text() == out
    assert capsys.readouterr().out == ""


def test_csv(canned, tmp_path, capsys):
    assert command(canned, "--csv", f"--out={tmp_path / 'out.csv'}", *CANNED) == 0
    with open(tmp_path / "out.csv", errors="surrogateescape", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "error", "class_1", "probability_1", "class_2", "probability_2"], (
        "no more than there are classes"
    )
    assert rows == [
        ["good.png", "", "cat", "0.75", "dog", "0.25"],
        ["bad.png", "cannot be decoded: it is no image", "", "", "", ""],
        ['\udcff, "a"\n.png', "", "dog", "1.0", "cat", repr(1 / 3)],
    ]
    assert command(canned, "--csv", "--top=1", "good.png") == 0
    assert capsys.readouterr().out == "file,error,class_1,probability_1\ngood.png,,cat,0.75\n"


def test_a_table_for_a_person(canned, capsys):
    assert command(canned, "good.png", "bad.png") == 0
    assert capsys.readouterr().out.splitlines() == [
        "file      class  probability  then",
        "good.png  cat    75.0%        dog 25.0%",
        "bad.png                       cannot be decoded: it is no image",
    ]


def test_a_table_and_a_bar_on_a_terminal(canned, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("convoy.trainer.outputs.predicted._ROWS", 4)
    assert command(canned, *["good.png"] * 4, "[bold]\x1b[2J.png") == 0
    shown = terminal.getvalue()
    assert "Predicting" in shown
    assert shown.count("probability") == 2, "a table for so many files"
    assert "[bold]\\x1b[2J.png" in shown
    assert "\x1b[2J.png" not in shown


def test_a_list_of_files(canned, tmp_path, capsys):
    for name, text in (("lines", "b c.png\r\n\nd.png"), ("ended", "b c.png\0d.png\0")):
        (tmp_path / name).write_text(text)
        assert command(canned, "--json", f"--list={tmp_path / name}", "a.png") == 0
        assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == [
            "a.png",
            "b c.png",
            "d.png",
        ]
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(exits.UsageError, match="--list=.*empty names no image"):
        command(canned, f"--list={tmp_path / 'empty'}")
    (tmp_path / "zeros").write_bytes(b"a" * 200_000)
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("zeros", exits.BadData), ("pipe", exits.BadData), ("absent", exits.CannotRun)):
        with pytest.raises(kind, match=str(tmp_path / name)):
            command(canned, f"--list={tmp_path / name}")


def test_where_nothing_could_be_read_it_is_bad_data(canned, capsys):
    with pytest.raises(
        exits.BadData, match="none of the 2 files could be read; the first: bad.png cannot be decoded: it is"
    ):
        command(canned, "--json", "bad.png", "bad.png")
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(exits.BadData, match="^bad.png cannot be decoded: it is no image.$"):
        command(canned, "bad.png")


@pytest.mark.parametrize(
    ("argv", "kind", "sentence"),
    [
        (["a.png"], exits.CannotRun, "--run_dir is missing"),
        (["--run_dir=x"], exits.UsageError, "no image is named; give files, folders or patterns"),
        (["--run_dir=x", "--json", "--csv", "a"], exits.CannotRun, "leave one of them out"),
        (["--run_dir=x", "--out=b", "a"], exits.CannotRun, "--out=b needs --json or --csv"),
        (["--run_dir=x", "a", "--top=0"], exits.CannotRun, "--top=0 is not possible: give a whole number from 1"),
        (["--run_dir=x", "a", "--checkpoint=first"], exits.CannotRun, "give last, best or a step"),
        (["--run_dir=x", "a", "--backend=torch"], exits.CannotRun, "--backend=torch is not possible"),
        (["--run_dir=x", "a", "--jsn"], exits.UsageError, "did you mean --json?"),
    ],
)  # fmt: skip
def test_a_bad_command_is_refused_by_the_parent(argv, kind, sentence):
    with pytest.raises(kind, match=sentence):
        dispatch(["predict", *argv])


def test_what_cannot_be_done_is_said(canned, tmp_path, monkeypatch):
    with pytest.raises(exits.CannotRun, match=f"--run_dir={tmp_path} is no run"):
        command(f"--run_dir={tmp_path}", "a.png")
    with pytest.raises(exits.CannotRun, match=f"--out={tmp_path} cannot be written: it is a folder"):
        command(canned, "--csv", f"--out={tmp_path}", "a.png")
    monkeypatch.undo()
    with pytest.raises(exits.CannotRun, match="no checkpoint of step 7"):
        command(canned, "--checkpoint=7", "a.png")


# Tables


def test_tables_show_what_strangers_named_and_obey_nothing():
    hostile = Prediction("a<script>\x1b[2J.png", (Guess("<b>cat\x07", 0, 0.75), Guess("do&g", 1, 0.25)))
    bad = Prediction("b.png", error="cannot be <read>\x1b")
    shown = Predictions([hostile, bad])
    assert repr(shown).splitlines() == [
        "file                  class       probability  then",
        "a<script>\\x1b[2J.png  <b>cat\\x07  75.0%        do&g 25.0%",
        "b.png                                          cannot be <read>\\x1b",
    ]
    html = shown._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;b&gt;cat\\x07" in html
    assert "do&amp;g 25.0%" in html
    assert "\x1b" not in html
    assert repr(Predictions([bad] * 25)).endswith("and 5 more")
    many = Prediction("c.png", tuple(Guess(name, 0, 0.125) for name in "abcdefgh"))
    assert many.described()[3] == ", ".join(f"{name} 12.5%" for name in "bcdefgh"), "as many as --top asks for"
    assert shown[:1] == Predictions([hostile])
    assert (hostile.name, hostile.probability, bad.name, bad.probability) == ("<b>cat\x07", 0.75, "", None)
    assert Prediction.from_json(hostile.to_json(), "") == hostile
    for line in ("[]", "{}", '{"file": 1}', '{"file": "a", "classes": [{}]}'):
        with pytest.raises(exits.BadData, match="^here "):
            Prediction.from_json(line, "here")
