"""Predictions: what an evaluation shows the model, counted as it counts, for any file, without the data set."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from convoy import exits
from convoy.cli import dispatch
from convoy.data.config import DataConfig
from convoy.data.images.listing import ImageFile, image_files
from convoy.data.pipeline import evaluation_batches
from convoy.data.sources.opening import open_dataset
from convoy.data.unlabelled import images_shown
from convoy.trainer import predict as prediction
from convoy.trainer.config import RunConfig
from convoy.trainer.experiment import open_run
from convoy.trainer.predictions import Guess, Prediction, Predictions
from convoy.trainer.run import run
from support import once, result_of, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run on digits, whose test split lies beside it as PNG files named INDEX-DIGIT; and one on photographs."""

    def make(place) -> None:
        test = open_dataset(DataConfig("digits")).split("test")
        (place / "new").mkdir()
        for index, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
            Image.fromarray(image[..., 0]).save(place / "new" / f"{index:04d}-{label}.png")
        write_images(place / "photos" / "train", ("cat", "dog"), each=6)
        write_images(place / "photos" / "test", ("cat", "dog"), each=5, first=9)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("convoy.trainer.outputs.curves.draw", lambda *values: None)
            run(RunConfig(str(place / "digits"), DataConfig("digits", eval_split="none"), duration="25st"))
            data = DataConfig(f"folder:{place / 'photos'}", image_size=8, eval_split="none")
            run(RunConfig(str(place / "photographs"), data, batch_size=4, duration="3st", ema=0.5))
        shutil.move(place / "photos" / "train", place / "gone")  # a prediction does not need it

    return once(tmp_path_factory, "predict", make)


def predicted(run_dir, *places, top=5, batch_size=32, tta=False) -> list[Prediction]:
    files = image_files(map(str, places))
    return list(prediction.predict(open_run(str(run_dir)), files, top, batch_size, tta))


def counted(predictions: list[Prediction], labels: list[str]) -> dict:
    """What an evaluation says per class, from predictions."""
    names = sorted({*labels, *(p.name for p in predictions)})
    pairs = [(p.name, label) for p, label in zip(predictions, labels, strict=True)]
    hits = {name: sum(guess == label == name for guess, label in pairs) for name in names}
    return {name: (labels.count(name), hits[name], sum(guess == name for guess, _ in pairs)) for name in names}


@pytest.mark.parametrize(("name", "batch_size"), [("digits", 64), ("photographs", 3)])
def test_predictions_count_as_the_evaluation_did(runs, name, batch_size):
    folder = runs / ("new" if name == "digits" else "photos/test")
    predictions = predicted(runs / name, folder, batch_size=batch_size)
    paths = sorted(str(path) for path in folder.rglob("*.*g"))
    assert [p.file for p in predictions] == paths
    labels = [os.path.basename(path)[5] if name == "digits" else path.split("/")[-2] for path in paths]
    measured = result_of(runs / name)["eval"]
    assert measured["examples"] == len(paths) > batch_size
    right = sum(p.name == label for p, label in zip(predictions, labels, strict=True))
    assert right / len(paths) == measured["accuracy"]
    for label, (count, hit, of_these) in counted(predictions, labels).items():
        entry = measured["per_class"][label]
        assert (entry["count"], entry["recall"]) == (count, hit / count)
        assert entry["precision"] == (hit / of_these if of_these else None)


def test_probabilities_are_the_softmax_of_the_evaluations_logits(runs):
    opened = open_run(str(runs / "photographs"))
    (first, *_) = predicted(runs / "photographs", runs / "photos/test/cat", top=2)
    pixels = next(iter(images_shown([ImageFile(first.file)], opened.image_shape, 8, 1.0, 1))).images
    logits = opened.model(pixels.astype(np.float32) / 255, training=False).numpy()[0].astype(np.float64)
    powers = np.exp(logits - logits.max())
    guesses = {guess.name: guess.probability for guess in first.guesses}
    assert guesses == pytest.approx(dict(zip(opened.class_names, powers / powers.sum(), strict=True)), rel=1e-5)
    assert sum(guesses.values()) == pytest.approx(1, abs=1e-12)
    assert prediction.softmax(np.array([[1e4, 0, -1e4]], np.float32)).tolist() == [[1, 0, 0]]


def test_tta_averages_the_probabilities_of_an_image_and_its_mirror_image():
    images = np.random.default_rng(1).integers(0, 256, (3, 2, 4, 1), np.uint8)
    plain, averaged = (
        prediction.probabilities_by(lambda x: x[:, 0, :, 0].astype(np.float32) / 99, tta) for tta in (False, True)
    )
    assert np.array_equal(averaged(images), (plain(images) + plain(images[:, :, ::-1])) / 2)
    assert not np.array_equal(averaged(images), plain(images))


# Which pixels


def write_odd_images(folder) -> None:
    """Of every kind that is decoded in a way of its own, 84x60 pixels once upright."""
    y, x = np.mgrid[0:60, 0:84]
    colour = Image.fromarray(np.stack([x * 3, y * 4, (x + y) * 1.7], axis=-1).astype(np.uint8))
    alpha = colour.convert("RGBA")
    alpha.putalpha(Image.fromarray((x * 3).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.mkdir(parents=True)
    colour.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    colour.save(folder / "plain.jpg", quality=95)
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    colour.convert("L").save(folder / "grey.jpg")
    alpha.save(folder / "alpha.png")
    alpha.convert("LA").save(folder / "grey and alpha.png")
    colour.quantize(16).save(folder / "palette.png")
    Image.fromarray((x * 700).astype(np.uint16)).save(folder / "16 bits.png")
    colour.save(folder / "plain.webp", lossless=True)
    colour.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", (84, 60))])
    colour.save(folder / "plain.bmp")


SHOWN = [(16, 0.8), *(pytest.param(*how, marks=pytest.mark.thorough) for how in ((0, 1.0), (16, 1.0), (100, 1.0)))]


@pytest.mark.parametrize(("size", "fraction"), SHOWN)
def test_a_file_is_shown_as_an_evaluation_shows_it(tmp_path, monkeypatch, size, fraction):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        write_odd_images(tmp_path / "photos" / name)
    crop = {"crop_fraction": fraction} if size else {}
    config = DataConfig(f"folder:{tmp_path / 'photos'}", image_size=size, eval_split="none", cache_bytes=0, **crop)
    dataset = open_dataset(config)
    expected = np.concatenate([images for images, *_ in evaluation_batches(dataset.split("train"), 11)])
    files = image_files([str(tmp_path / "photos")])
    batches = list(images_shown(files, dataset.image_shape, size, fraction, 4))
    assert [len(batch.files) for batch in batches] == [4, 4, 4, 4, 4, 2]
    assert not any(file.reason for batch in batches for file in batch.files)
    shown = np.concatenate([batch.images[batch.rows >= 0] for batch in batches])
    assert np.array_equal(shown, expected)


def test_colour_becomes_grey_as_pillow_has_it_and_grey_stays(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    greys = np.arange(4096).reshape(64, 64).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "1.png")
    Image.fromarray(greys).save(tmp_path / "2.png")
    (batch,) = images_shown(image_files([str(tmp_path)]), (64, 64, 1), 0, 1.0, 2)
    assert np.array_equal(batch.images[0, ..., 0], np.asarray(Image.fromarray(colours).convert("L")))
    assert np.array_equal(batch.images[1, ..., 0], greys)


def test_files_are_read_a_few_batches_ahead(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    asked = itertools.count()
    files = (ImageFile(str(tmp_path / "a.png")) for _ in iter(lambda: next(asked), None))
    stream = images_shown(files, (8, 8, 1), 0, 1.0, 16)
    for _ in range(3):
        assert len(next(stream).files) == 16
    stream.close()
    assert next(asked) < 16 * 40, "of endlessly many"


def test_an_error_of_the_listing_ends_the_predictions(tmp_path):
    def files():
        yield ImageFile(str(tmp_path / "absent"))
        raise exits.CannotRun("cannot list it.")

    stream = images_shown(files(), (8, 8, 1), 0, 1.0, 1)
    assert next(stream).files[0].reason == "cannot be read: no such file or directory"
    with pytest.raises(exits.CannotRun, match="cannot list it"):
        next(stream)


# Bad files


@pytest.fixture
def odd(tmp_path):
    """Three images among what is none."""
    folder = tmp_path / "odd"
    write_images(folder, ("a", "b"), each=2)
    (folder / "text.png").write_text("\x1b[2Jno image")
    whole = (folder / "b" / "001.png").read_bytes()
    (folder / "b" / "001.png").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "pipe.png")
    (folder / "away.jpg").symlink_to(folder / "absent")
    (folder / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_what_cannot_be_read_is_named_in_its_place(runs, odd):
    places = [odd / "odd", odd / "empty", odd / "none*.png", odd / "odd" / "notes.txt", odd / "odd" / "a" / "0*"]
    predictions = predicted(runs / "photographs", *places, batch_size=3)
    named = {p.file.removeprefix(f"{odd}/"): p.error for p in predictions}
    assert list(named) == [
        "odd/a/000.jpg", "odd/a/001.png", "odd/away.jpg", "odd/b/000.jpg", "odd/b/001.png", "odd/pipe.png", "odd/text.png",
        "empty", "none*.png", "odd/notes.txt",
    ]  # fmt: skip
    assert [p.file.removeprefix(f"{odd}/odd/") for p in predictions[-2:]] == ["a/000.jpg", "a/001.png"]
    assert {name: error for name, error in named.items() if not error} == dict.fromkeys(
        ["odd/a/000.jpg", "odd/a/001.png", "odd/b/000.jpg"], ""
    )
    assert named["odd/away.jpg"] == "cannot be read: no such file or directory"
    assert named["odd/b/001.png"].startswith("cannot be decoded: ")
    assert named["odd/pipe.png"] == "cannot be read: it is no regular file"
    assert named["odd/text.png"] == "cannot be decoded: it is no JPEG, PNG, GIF, BMP or WebP image"
    assert named["empty"].startswith("holds no image (.jpg, ")
    assert named["none*.png"] == "matches no file"
    assert all(bool(p.guesses) != bool(p.error) for p in predictions)


def test_an_image_of_another_size_is_refused_where_the_run_has_no_image_size(runs, tmp_path):
    Image.new("L", (8, 9)).save(tmp_path / "a.png")
    (wrong,) = predicted(runs / "digits", tmp_path)
    assert wrong.error == ("is 8x9 pixels, and the run's images are 8x8 (a run with --image_size takes any size)")


def test_numbers_that_are_not_finite_are_no_prediction(runs, monkeypatch):
    opened = open_run(str(runs / "digits"))
    opened.model.layers[-1].bias.assign(np.full(10, np.inf, np.float32))
    files = itertools.islice(image_files([str(runs / "new")]), 2)
    errors = [p.error for p in prediction.predict(opened, files, 5, 2, False)]
    assert errors == ["cannot be classified: the model returns no finite numbers for it"] * 2


# The command, without its processes and, but for two tests, without a model

CANNED = {
    "good.png": Prediction("good.png", (Guess("cat", 0, 0.75), Guess("dog", 1, 0.25))),
    "bad.png": Prediction("bad.png", error="cannot be decoded: it is no image"),
    '\udcff, "a"\n.png': Prediction('\udcff, "a"\n.png', (Guess("dog", 1, 1.0), Guess("cat", 0, 1 / 3))),
}


@pytest.fixture
def canned(monkeypatch, runs):
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
    return f"--run_dir={runs / 'photographs'}"


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
    assert command(canned, *["good.png"] * 1001, "[bold]\x1b[2J.png") == 0
    shown = terminal.getvalue()
    assert "Predicting" in shown
    assert shown.count("probability") == 2, "a table for each thousand files"
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


def test_what_cannot_be_done_is_said(canned, runs, tmp_path, monkeypatch):
    with pytest.raises(exits.CannotRun, match=f"--run_dir={tmp_path} is no run"):
        command(f"--run_dir={tmp_path}", "a.png")
    with pytest.raises(exits.CannotRun, match=f"--out={tmp_path} cannot be written: is a directory"):
        command(canned, "--csv", f"--out={tmp_path}", "a.png")
    monkeypatch.undo()
    with pytest.raises(exits.CannotRun, match="no checkpoint of step 7"):
        command(canned, "--checkpoint=7", "a.png")


def test_batches_that_do_not_fit_are_refused(runs, monkeypatch):
    opened, image = open_run(str(runs / "digits")), [ImageFile(str(runs / "new" / os.listdir(runs / "new")[0]))]

    def exhausted(images):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr("convoy.trainer.engines.tensorflow.forward", lambda model: exhausted)
    with pytest.raises(exits.CannotRun, match="out of memory with --batch_size=2; give a smaller one"):
        list(prediction.predict(opened, image, 5, 2, False))
    monkeypatch.setattr("convoy.data.memory.os.sysconf", lambda name: 1000)
    with pytest.raises(exits.CannotRun, match="--batch_size=1048576 is not possible here"):
        list(prediction.predict(opened, image, 5, 1 << 20, False))


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
    assert shown[:1] == Predictions([hostile])
    assert (hostile.name, hostile.probability, bad.name, bad.probability) == ("<b>cat\x07", 0.75, "", None)
    assert Prediction.from_json(hostile.to_json(), "") == hostile
    for line in ("[]", "{}", '{"file": 1}', '{"file": "a", "classes": [{}]}'):
        with pytest.raises(exits.BadData, match="^here "):
            Prediction.from_json(line, "here")
