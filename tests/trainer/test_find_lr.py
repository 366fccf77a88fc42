"""--find_lr: which rate is named, what is written where, and what is left alone."""

from __future__ import annotations

import json
import math
import subprocess

import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.store import open_store
from convoy.trainer import rate_search
from convoy.trainer.config import RunConfig
from convoy.trainer.schedules.range_test import HIGH, LOW, STEPS, RangeTest
from convoy.trainer.verbs import find_lr
from support import command

pytestmark = pytest.mark.slow  # Keras, and networks of its own

RATES = [1e-6 * (1e8 ** (step / STEPS)) for step in range(STEPS)]
LOWEST = 60


def valley(step: int) -> float:
    """A loss that is lowest at LOWEST and rises steeply after it."""
    return 1.0 + 0.02 * (LOWEST - step) if step < LOWEST else 1.0 + 0.05 * 1.4 ** (step - LOWEST)


def test_a_tenth_of_the_rate_at_the_smoothed_minimum_is_named():
    test = RangeTest.of_losses(RATES, [valley(step) for step in range(STEPS)])
    average, smoothed = 0.0, []
    for step in range(len(test.losses)):
        average = 0.98 * average + 0.02 * valley(step)
        smoothed.append(average / (1 - 0.98 ** (step + 1)))
    assert test.smoothed == pytest.approx(smoothed)
    lowest = smoothed.index(min(smoothed))
    assert lowest > LOWEST, "an average comes late; the tenth is for that"
    assert test.rate == pytest.approx(RATES[lowest] / 10, rel=0.05)
    assert f"--learning_rate={test.rate:g}: a tenth of {RATES[lowest]:.2g}, where" in test.sentence
    assert test.ends, "four times the lowest"
    assert test.smoothed[-1] <= 4 * min(test.smoothed)
    assert f"diverged above {test.rates[-1]:.2g}" in test.sentence


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([math.nan], "No learning rate is named: the loss was not finite at the first."),
        ([2.3] * STEPS, "never fell between 1e-06 and"),
        ([2.3, 2.3, 2.4, 40.0, math.inf], "never fell between 1e-06 and 1.4e-06"),
    ],
    ids=["NaN", "flat", "rising"],
)
def test_no_rate_is_named_where_the_loss_does_not_fall(losses, words):
    test = RangeTest.of_losses(RATES, losses)
    assert test.rate is None
    assert words in test.sentence


def test_a_loss_that_falls_to_the_end_is_told():
    test = RangeTest.of_losses(RATES, [3 - 0.02 * step for step in range(STEPS)])
    assert test.rate == pytest.approx(RATES[-1] / 10, rel=0.05)
    assert not test.ends
    assert "it did not diverge up to" in test.sentence


def test_what_is_not_finite_is_left_out():
    test = RangeTest.of_losses(RATES, [2.3, 2.2, 2.1, math.nan])
    assert (len(test.rates), test.losses, test.ends) == (3, [2.3, 2.2, 2.1], True)


def config(run_dir, **values) -> RunConfig:
    data = DataConfig("synthetic:8x8x1:3:96", eval_split="none")
    return RunConfig(str(run_dir), data, batch_size=16, devices="cpu:1", ema=0.9, **values)


def search(run_dir) -> dict:
    """The record of a search. It makes operations deterministic, which its process cannot take back: one of its own."""
    argv = ["--find_lr", "--dataset=synthetic:8x8x1:3:96", "--eval_split=none", "--batch_size=16", "--devices=cpu:1"]
    subprocess.run(command("train", *argv, "--ema=0.9", f"--run_dir={run_dir}"), check=True, timeout=150)
    return json.loads((run_dir.parent / "run-find_lr" / "find_lr.json").read_text())


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The record of one search, and the directory."""
    run_dir = tmp_path_factory.mktemp("search") / "run"
    return search(run_dir), run_dir


def test_a_search_writes_each_step_and_a_picture(searched):
    record, run_dir = searched
    assert not run_dir.exists()
    steps = record["steps"]
    assert 50 < len(steps) <= STEPS
    assert [step["step"] for step in steps] == list(range(len(steps)))
    rates = [step["learning_rate"] for step in steps]
    expected = [0.001 * LOW * (HIGH / LOW) ** (step / STEPS) for step in range(len(steps))]
    assert rates == pytest.approx(expected, rel=1e-4)
    assert record["learning_rate"] == pytest.approx(
        rates[min(range(len(steps)), key=lambda step: steps[step]["smoothed_loss"])] / 10, rel=0.05
    )
    assert record["sentence"].startswith(f"--learning_rate={record['learning_rate']:g}: ")
    picture = (run_dir.parent / "run-find_lr" / "find_lr.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


@pytest.mark.thorough
def test_a_search_comes_to_the_same_bits_again(searched, tmp_path):
    record, _ = searched
    (tmp_path / "run-find_lr").mkdir()
    again = search(tmp_path / "run")
    assert {**again, "flags": record["flags"]} == record


@pytest.mark.parametrize("entry", ["config.json", "checkpoints/1/manifest.json", "holiday.jpg"])
def test_a_directory_with_anything_else_is_left_alone(entry, tmp_path):
    place = tmp_path / "run-find_lr"
    (place / entry).parent.mkdir(parents=True)
    (place / entry).write_text("{}")
    with pytest.raises(exits.CannotRun, match=f"run-find_lr holds {entry}, and --find_lr would write there"):
        find_lr.work(config(tmp_path / "run"))
    assert [str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()] == [entry]


def test_several_processes_do_not_search(monkeypatch, tmp_path):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(exits.CannotRun, match="--find_lr searches in one process"):
        find_lr.work(config(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_parts_that_train_later_have_no_rate_yet():
    with pytest.raises(exits.CannotRun, match="leave --unfreeze out"):
        rate_search.settings(config("run", unfreeze="1ep"))


def test_a_search_is_of_the_run_that_was_asked_for():
    asked = config(
        "run", optimizer="lars", momentum=0.8, weight_decay=0.01, schedule="cosine", warmup="5st"
    ).with_defaults()
    settings = rate_search.settings(asked)
    changed = {name for name, value in settings.to_dict().items() if value != asked.to_dict()[name]}
    assert changed == {"learning_rate", "duration", "schedule", "warmup", "ema", "deterministic"}
    assert open_store(find_lr.directory("runs/x/")).url.endswith("runs/x-find_lr")


@pytest.mark.thorough
def test_both_engines_name_the_same_rate_beside_a_run_that_stays_as_it_is(convoy, tmp_path):
    flags = ["--dataset=synthetic:8x8x1:3:96", "--batch_size=16", "--devices=cpu:1", "--run_dir=run"]
    assert convoy("train", "--duration=2st", *flags).code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    records = {}
    for backend in ("tensorflow", "jax"):
        done = convoy("train", "--find_lr", f"--backend={backend}", *flags)
        assert done.code == 0, done
        records[backend] = json.loads((tmp_path / "run-find_lr" / "find_lr.json").read_text())
        assert (
            f"convoy train --dataset=synthetic:8x8x1:3:96 --batch_size=16 --learning_rate={records[backend]['learning_rate']:g}"
            in done.out
        )
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    first, second = ([step["loss"] for step in records[backend]["steps"]] for backend in records)
    assert first[:60] == pytest.approx(second[:60], rel=1e-4)
    assert records["tensorflow"]["learning_rate"] == records["jax"]["learning_rate"]
