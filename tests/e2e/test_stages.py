"""Runs in stages: killed around a border, on several devices, continued with other flags, and measured again."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import (
    REPOSITORY,
    assert_same_bits,
    command,
    environment,
    events_of,
    final_tensors,
    once,
    records_of,
    result_of,
)

THOROUGH = pytest.mark.thorough
BACKENDS = ["tensorflow", "jax"]
MODEL = """
import keras
from keras import layers
from convoy.trainer.layers import Dropout

def staged(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = Dropout(0.3, name="drop")(layers.Flatten()(x))
    x = layers.Dense(16, activation="relu", name="dense")(x)
    return keras.Model(image, layers.Dense(num_classes, name="logits")(x), name="mine")
"""
# Blocks: stem, norm, dense, logits. The first border lets dense and norm train, the second the stem.
FLAGS = ["--dataset=digits", "--model=mine:staged", "--augment=article", "--batch_size=64", "--seed=1", "--deterministic",
         "--optimizer=adamw", "--weight_decay=0.01", "--learning_rate=0.003", "--ema=0.9", "--clip_norm=1",
         "--groups=norm/:wd=0;dense/bias:freeze;logits:lr=2", "--layer_decay=0.75", "--unfreeze=20st,30st",
         "--duration=40st", "--eval_every=20st", "--checkpoint_every=10st", "--keep=9", "--noreport"]  # fmt: skip
# Before, at and after the first border; between the save at the second border and its first step; after it.
KILLS = ["kill:step@18", "kill:between@20", "kill:step@23", "kill:manifest@30", "kill:step@31"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Callable[..., Path]:
    """whole(backend, flag, ...) -> the run of FLAGS and these, to its end."""

    def get(backend: str, *more: str) -> Path:
        def make(place: Path) -> None:
            (place / "mine.py").write_text(MODEL)
            argv = command("train", *FLAGS, *more, f"--backend={backend}", "--run_dir=run")
            subprocess.run(argv, cwd=place, env=environment(), check=True, timeout=300)

        return once(tmp_path_factory, "-".join(["stages", backend, *more]).replace("/", ""), make) / "run"

    return get


def assert_same(run_dir: Path, other: Path) -> None:
    assert_same_bits(run_dir, other)
    assert records_of(run_dir) == records_of(other)


@THOROUGH
def test_a_run_whose_last_checkpoint_is_that_of_a_border_ends_with_the_same_bits(convoy, whole, tmp_path):
    (tmp_path / "mine.py").write_text(MODEL)
    shutil.copytree(whole("tensorflow"), tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        if int(checkpoint.name.split(".")[0]) > 20:
            shutil.rmtree(checkpoint)
    outcome = convoy("train", *FLAGS, "--run_dir=run")
    assert outcome.code == 0, outcome
    assert "continues at step 20 of 40" in outcome.out
    assert "170 parameters train" in outcome.out
    assert_same(tmp_path / "run", whole("tensorflow"))


@THOROUGH
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_around_its_borders(convoy, whole, tmp_path, backend):
    (tmp_path / "mine.py").write_text(MODEL)
    argv = [*FLAGS, f"--backend={backend}", "--run_dir=run", "--steps_per_loop=5"]
    for kill in KILLS:
        outcome = convoy("train", *argv, chaos=kill)
        assert outcome.code == 42, f"{kill}: {outcome}"
    outcome = convoy("train", *argv)
    assert outcome.code == 0, outcome
    assert result_of(tmp_path / "run")["attempts"] == len(KILLS) + 1
    assert_same(tmp_path / "run", whole(backend))


def assert_equal(run_dir: Path, other: Path, tensors: float, losses: float) -> None:
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(1.0 * value - theirs[name]).max() <= tensors * scale, name
    for ours, theirs in zip(records_of(run_dir), records_of(other), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=losses)
        assert ours.get("learning_rate") == theirs.get("learning_rate")


@THOROUGH
@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_devices_ends_as_one(whole, backend, devices):
    exact = ["--precision=float64", "--accumulate=2"]
    found = whole(backend, *exact, f"--devices=cpu:{devices}")
    assert_equal(found, whole("tensorflow", *exact, "--devices=cpu:1"), 1e-7, 1e-8)
    assert_equal(found, whole(backend, *exact, "--devices=cpu:1"), 1e-9, 1e-10)


def test_the_recorded_learning_rate_is_the_base_and_averages_leave_out_what_never_trains(whole):
    run_dir = whole("tensorflow")
    rates = [record["learning_rate"] for record in records_of(run_dir) if record["split"] == "train"]
    assert rates == pytest.approx([0.003] * 2)
    names = [name for name in final_tensors(run_dir) if "dense" in name and "bias" in name]
    assert [name.split("/")[0] for name in names] == ["model"]


@THOROUGH
@pytest.mark.parametrize("flag", ["--unfreeze=25st", "--groups=norm/:wd=0", "--layer_decay=0.5"])
def test_a_run_goes_on_with_the_groups_and_stages_it_began_with(convoy, tmp_path, flag):
    (tmp_path / "mine.py").write_text(MODEL)
    assert convoy("train", *FLAGS, "--run_dir=run", chaos="kill:step@12").code == 42
    outcome = convoy("train", *FLAGS, flag, "--run_dir=run")
    assert outcome.code == 78
    assert f"  {flag}, but the run was begun with" in outcome.err


@THOROUGH
@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluate_reads_a_run_in_stages(convoy, whole, backend):
    run_dir = whole(backend)
    outcome = convoy("evaluate", f"--run_dir={run_dir}", "--model=mine:staged", cwd=run_dir.parent)
    assert outcome.code == 0, outcome
    assert f"{result_of(run_dir)['eval']['accuracy']:.2%}" in outcome.out
    assert [event["step"] for event in events_of(run_dir) if event["event"] == "saved"][-1] == 40


@THOROUGH
def test_the_worked_example_of_the_page_runs(convoy):
    text = (REPOSITORY / "docs" / "fine-tuning.md").read_text().partition("## Worked example")[2]
    commands = re.findall(r"^    convoy ((?:.*\\\n)*.*)$", text.replace("    convoy:", ""), re.MULTILINE)
    assert len(commands) == 2
    outcomes = [convoy(*shlex.split(argv.replace("\\\n", " "))) for argv in commands]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    told = re.search(r"Note: (.* parameters train, .*)", text)
    assert told
    assert told[1] in outcomes[1].out
