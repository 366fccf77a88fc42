"""Flags by the names that other trainers give them, misspelled names, and values of another kind: what a newcomer writes."""

from __future__ import annotations

import shlex

import pytest

import convoy
from convoy import elsewhere, exits, help_text, options
from convoy.data.config import DataConfig
from convoy.data.sources.names import DatasetSpec
from convoy.elsewhere import ROWS
from convoy.table import near
from convoy.trainer.config import RunConfig
from convoy.trainer.flags.find_lr import RateSearch
from convoy.trainer.flags.prediction import PredictConfig
from convoy.trainer.verbs.bench import VERB as BENCH
from convoy.trainer.verbs.evaluate import EvaluateConfig

TRAIN = (RateSearch, RunConfig, DataConfig)
TRAIN_FLAGS = [field.name for field in options.fields(*TRAIN)]
OURS = {*TRAIN_FLAGS, *(field.name for field in options.fields(PredictConfig, EvaluateConfig)), "flagfile"}


def refusal(*words: str, classes: tuple[type, ...] = TRAIN) -> str:
    with pytest.raises(exits.UsageError) as refused:
        options.parse_with_words(list(words), *classes)
    return str(refused.value)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names.split()[0])
def test_each_name_is_answered_with_what_can_be_written(row):
    for name in row.names.split():
        assert name not in TRAIN_FLAGS, "it is a flag of ours"
        assert elsewhere.find(name, sorted(OURS)), name
    if not row.flag:
        return
    assert row.flag in OURS
    written = shlex.split(row.written("").split(" (")[0])
    if row.flag in TRAIN_FLAGS:
        options.parse(written, *TRAIN)


def test_every_name_stands_in_one_row_for_a_flag():
    names = [(name, row.flag) for row in ROWS for name in row.names.split()]
    assert len(names) == len(set(names))
    assert len({name for name, _ in names}) > 150


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["--lr=0.1"], "write --learning_rate=0.1."),
        (["--lr", "3e-4"], "write --learning_rate=3e-4."),
        (["--epochs=30"], "write --duration=30ep."),
        (["--epochs", "30"], "write --duration=30ep."),
        (["--epochs"], "write --duration=10ep."),
        (["--num-train-epochs=3"], "write --duration=3ep."),
        (["--max-steps=900"], "write --duration=900st."),
        (["--gpus=4"], "write --devices=gpu:4."),
        (["--gpus=0,1"], "write --devices=gpu:2."),
        (["--gpus=-1"], "write --devices=gpu:2."),
        (["--weights=resnet.pt"], "write --pretrained=imagenet (or a file or a run)."),
        (["--early_stopping"], "write --patience=5 (evaluations no better than the best)."),
        (["--early_stopping=8"], "write --patience=8 (evaluations no better than the best)."),
        (["--batch-size=64"], "write --batch_size=64."),
        (["--batch=64"], "write --batch_size=64 (over all devices together)."),
        (["-b", "64"], "write --batch_size=64 (over all devices together)."),
        (["--imgsz=640"], "write --image_size=640."),
        (["--data=my photos"], "write --dataset=folder:'my photos'."),
        (["--data"], "write --dataset=folder:PATH."),
        (["-a", "resnet18"], "write --model=resnet18 (`convoy models` lists all)."),
        (["--workers=8"], "leave it out: the input takes all CPU cores."),
        (["--output-dir=out/one"], "write --run_dir=out/one."),
        (["--resume"], "write --run_dir=DIR (a run that is there is continued)."),
        (["--amp"], "write --precision=mixed_bfloat16."),
        (["--Learning-Rate=1"], "write --learning_rate=1."),
        (["--config=a.yaml"], "write --flagfile=a.yaml (a flag a line)."),
    ],
)
def test_a_flag_of_another_trainer_is_answered_with_ours(words, written):
    assert refusal(*words) == f"there is no flag {'--' + words[0].partition('=')[0].lstrip('-')}; {written}"


def test_a_verb_is_answered_with_its_own_flag():
    assert "write --run_dir=DIR" in refusal("--weights", classes=(EvaluateConfig,))
    assert "write --top=3." in refusal("--topk=3", classes=(PredictConfig,))
    assert "--lr; --help lists" in refusal("--lr=1", classes=(PredictConfig,)), "it has no learning rate"


def test_python_is_answered_too():
    with pytest.raises(exits.UsageError, match=r"no argument epochs; write --duration=3ep as a keyword argument\."):
        convoy.train("digits", epochs=3)


@pytest.mark.parametrize(
    ("word", "names", "answer"),
    [
        ("csv", ["cassava", "digits"], "there are cassava, digits."),
        ("weights", ["weight_decay", "devices"], "there are weight_decay, devices."),
        ("eval", ["evaluate", "train"], "did you mean evaluate?"),
        ("AdamW", ["adamw", "sgd"], "did you mean adamw?"),
        ("cifar", ["cifar10", "mnist"], "did you mean cifar10?"),
        ("batchsize", ["batch_size"], "did you mean batch_size?"),
    ],
)
def test_only_what_is_near_is_meant(word, names, answer):
    assert near(word, names) == answer


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("flder:photos", "did you mean folder:PATH?"),
        ("CSV:rows.csv", "did you mean csv:FILE?"),
        ("~/photos", "did you mean folder:~/photos?"),
        ("./rows.csv", "did you mean csv:./rows.csv?"),
        ("/data/photos", "did you mean folder:/data/photos?"),
    ],
)
def test_a_data_set_without_its_source_is_answered_at_once(text, meant):
    with pytest.raises(exits.CannotRun) as refused:
        DatasetSpec.parse(text)
    assert str(refused.value) == f"--dataset={text} is not possible: {meant}"


@pytest.mark.parametrize("text", ["cifar10", "cifar10:3.0.2", "cifar10_corrupted/blur_1", "kaggle:cats"])
def test_names_of_tfds_are_left_to_it(text):
    assert DatasetSpec.parse(text).name == ""


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("--learning_rate=abc", "--learning_rate=abc is no number; give a number from 1e-30 up to 1e+30."),
        ("--batch_size=many", "--batch_size=many is no whole number; give a whole number from 1 to 16,777,216."),
        ("--batch_size=12.5", "--batch_size=12.5 is no whole number; give a whole number from 1 to 16,777,216."),
        ("--deterministic=perhaps", "--deterministic=perhaps: give true or false."),
        ("--nodeterministic=1", "--nodeterministic=1 does not take an argument."),
    ],
)
def test_a_value_of_another_kind_is_refused_in_our_words(word, sentence):
    assert refusal(word) == sentence


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("loss", ["--loss"]),
        ("--loss", ["--loss"]),
        ("batch", ["--batchnorm", "--batch_size", "--batch_ramp"]),
        ("lr", ["--find_lr", "--learning_rate", "--scale_lr"]),
        ("Goyal", ["--model", "--scale_lr"]),
    ],
)
def test_help_about_a_text_shows_its_flags(text, flags):
    lines = help_text.about(text, *TRAIN).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  --")] == flags


def test_help_about_nothing_says_so():
    with pytest.raises(
        exits.UsageError, match="--help=xylophone: no flag has that in its name or its help; --help lists"
    ):
        help_text.about("xylophone", *TRAIN)
    assert [help_text.wanted(words) for words in ([], ["--help"], ["-h"], ["--x=1", "--help=loss"])] == [
        None,
        "",
        "",
        "loss",
    ]


def test_a_verb_shows_its_own_flags(capsys):
    assert BENCH(["--help"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  --")] == [
        "--rounds", "--seconds", "--json", "--flagfile=FILE", "--help=TEXT",
    ]  # fmt: skip
    assert text.endswith("It takes the flags of a run too, which `convoy train --help` lists.\n")
    assert BENCH(["--help=batch_size"]) == 0, "and knows the others"
