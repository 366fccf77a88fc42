"""Runs as a person starts them: to the end, again, on, and not over another one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import (
    QUICK,
    Outcome,
    assert_same_bits,
    command,
    environment,
    events_of,
    final_tensors,
    once,
    records_of,
    result_of,
)

INTERFACE = (
    "train --dataset=digits --model=article_cnn --augment=article --batch_size=64 --duration=60st --precision=float32"
    " --devices=cpu:1 --seed=3 --deterministic --checkpoint_every=20st --run_dir="
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run of the interface that others rely on, finished; and how it ended."""

    def make(place: Path) -> None:
        argv = command(*f"{INTERFACE}{place / 'run'}".split())
        done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=150, check=False)
        (place / "outcome.json").write_text(json.dumps([done.returncode, done.stdout, done.stderr]))

    place = once(tmp_path_factory, "interface", make)
    code, out, err = json.loads((place / "outcome.json").read_text())
    return place / "run", Outcome(subprocess.CompletedProcess([], code, out, err))


def test_a_run_prints_its_result_and_its_files(finished):
    run_dir, outcome = finished
    assert outcome.code == 0, outcome
    assert outcome.err == "", "nothing but the run itself is on the screen"
    what, where, checkpoint = outcome.out.splitlines()[-3:]
    result = result_of(run_dir)
    assert f"{result['eval']['accuracy']:.2%} of {result['eval']['examples']} test examples" in what
    assert f"{run_dir}/result.json" in where
    assert f"{run_dir}/curves.png" in where
    assert f"{run_dir}/checkpoints/00000060.1" in checkpoint
    for words in (
        "devices",
        "strategy one",
        "64 global, 64 per replica",
        "per epoch",
        "0.001 peak",
        "parameters",
        "signal",
    ):
        assert words in outcome.out


def test_the_run_directory_holds_what_the_design_promises(finished):
    run_dir, _ = finished
    result = result_of(run_dir)
    assert (result["status"], result["step"], result["examples"], result["attempts"]) == ("finished", 60, 3840, 1)
    assert set(result["train"]) == {"images_per_second", "input_wait_fraction", "step_milliseconds"}
    assert result["train"]["input_wait_fraction"] is None, "TensorFlow reads no clock where bits must repeat"
    assert result["eval"]["split"] == "test"
    assert sum(entry["count"] for entry in result["eval"]["per_class"].values()) == result["eval"]["examples"]
    for key in ("schema", "versions", "seed", "precision", "devices", "best", "wall_seconds"):
        assert key in result
    flags = (run_dir / "config.flags").read_text().splitlines()
    # A test split that is added later can still be measured; whoever continues the run has a cache of their own.
    assert [flag for flag in flags if flag.endswith("auto")] == ["--test_split=auto", "--compile_cache=auto"]
    assert (run_dir / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert list((run_dir / "tensorboard").iterdir())
    splits = {(line["split"], line["step"]) for line in records_of(run_dir)}
    # 1,300 of the digits in batches of 64: epochs end at steps 21 and 41, the run at 60.
    assert splits == {(split, step) for split in ("train", "eval") for step in (21, 41, 60)}


def test_the_written_flags_reproduce_the_run(finished, convoy, tmp_path):
    run_dir, _ = finished
    again = tmp_path / "again"
    outcome = convoy("train", f"--flagfile={run_dir / 'config.flags'}", f"--run_dir={again}")
    assert outcome.code == 0, outcome
    assert_same_bits(run_dir, again)
    assert records_of(run_dir) == records_of(again)


def test_a_finished_run_is_not_run_again(finished, convoy):
    run_dir, _ = finished
    before = (run_dir / "result.json").read_bytes()
    outcome = convoy(*f"{INTERFACE}{run_dir}".split())
    assert outcome.code == 0, outcome
    assert "is finished" in outcome.out
    assert (run_dir / "result.json").read_bytes() == before


def test_another_run_is_refused_with_the_difference(finished, convoy):
    run_dir, _ = finished
    outcome = convoy(*f"{INTERFACE}{run_dir}".split(), "--batch_size=32", "--seed=4")
    assert outcome.code == 78, outcome
    assert "--batch_size=32, but the run was begun with --batch_size=64" in outcome.err
    assert "--seed=4, but the run was begun with --seed=3" in outcome.err


def test_evaluate_measures_what_the_run_reached(finished, convoy, tmp_path):
    run_dir, _ = finished
    outcome = convoy("evaluate", f"--run_dir={run_dir}", f"--output={tmp_path / 'out.json'}")
    assert outcome.code == 0, outcome
    measured = json.loads((tmp_path / "out.json").read_text())
    result = result_of(run_dir)
    assert measured["accuracy"] == result["eval"]["accuracy"]
    assert measured["loss"] == pytest.approx(result["eval"]["loss"], rel=1e-6)
    assert measured["per_class"] == result["eval"]["per_class"]
    best = convoy("evaluate", f"--run_dir={run_dir}", "--checkpoint=best", "--split=eval")
    assert best.code == 0, best
    assert f"step {result['best']['step']:.0f}: {result['best']['accuracy']:.2%}" in best.out


def test_a_run_continued_to_a_longer_duration_equals_a_run_of_that_length(convoy, undisturbed, tmp_path):
    short = tmp_path / "short"
    assert convoy("train", *QUICK, f"--run_dir={short}", "--duration=40st", "--steps_per_loop=7").code == 0
    outcome = convoy("train", *QUICK, f"--run_dir={short}")
    assert outcome.code == 0, outcome
    assert "continues at step 40 of 60" in outcome.out
    assert_same_bits(short, undisturbed)
    assert records_of(short) == records_of(undisturbed)
    assert result_of(short)["eval"] == result_of(undisturbed)["eval"]


def test_a_users_own_model_trains_from_the_current_directory(convoy, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import keras\n\nfrom data import WIDTH\nfrom launch.pad import RATE\nfrom trainer import activation\n\n\n"
        "def small(input_shape, num_classes):\n"
        "    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(),\n"
        "                             keras.layers.Dense(WIDTH, activation), keras.layers.Dropout(RATE),\n"
        "                             keras.layers.Dense(num_classes)])\n"
    )
    # The user's own packages, of the names that Convoy's floors have in its repository.
    for place, text in {
        "data/__init__": "WIDTH = 7",
        "launch/pad": "RATE = 0.1",
        "trainer": "activation = 'relu'",
    }.items():
        (tmp_path / f"{place}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{place}.py").write_text(text + "\n")
    outcome = convoy("train", *QUICK, "--model=mine:small", "--run_dir=run", "--optimizer=sgd")
    assert outcome.code == 0, outcome
    assert final_tensors(tmp_path / "run")["model/sequential/dense/kernel"].shape == (64, 7)
    assert any("seed_generator" in name for name in final_tensors(tmp_path / "run")), "the dropout's state is saved"


def test_a_folder_of_photographs_trains_in_a_directory_with_a_strange_name(convoy, photographs, tmp_path):
    photographs = photographs.rename(tmp_path / "[bold] $^$ phot\xf6s")
    outcome = convoy("train", f"--dataset=folder:{photographs}", "--image_size=16", "--duration=20st", "--batch_size=8",
                     "--augment=standard", "--run_dir=[/x]", "--eval_split=hash:0.3")  # fmt: skip
    assert outcome.code == 0, outcome
    result = result_of(tmp_path / "[/x]")
    assert result["eval"]["split"] == "hash:0.3", "there is no test split, and it says so"
    assert set(result["eval"]["per_class"]) == {"cat", "dog"}


@pytest.mark.thorough  # half a minute; every part of it has a test of its own
def test_the_real_cifar10_trains_in_bfloat16_with_everything_on(convoy, cifar10, tmp_path):
    outcome = convoy("train", "--dataset=cifar10", f"--data_dir={cifar10}", "--augment=standard", "--duration=40st",
                     "--precision=mixed_bfloat16", "--accumulate=3", "--ema=0.9", "--clip_norm=1", "--optimizer=adamw",
                     "--weight_decay=0.01", "--warmup=10st", "--schedule=cosine", "--label_smoothing=0.1",
                     "--learning_rate=0.002", "--eval_split=none", "--run_dir=run")  # fmt: skip
    assert outcome.code == 0, outcome
    result = result_of(tmp_path / "run")
    assert result["eval"]["examples"] == 10_000
    assert result["eval"]["accuracy"] > 0.25  # 0.1 by chance
    assert result["best"] is None


BOMB = """
import keras
class Bomb(keras.layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="count")
    def call(self, x, training=False):
        if training:
            self.count.assign_add(1)
        return x + keras.ops.where(self.count > 30, float("inf"), 0.0)
def model(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes), Bomb()])
"""


@pytest.mark.thorough
def test_a_run_that_diverges_names_the_step_and_the_last_good_checkpoint(convoy, tmp_path):
    (tmp_path / "mine.py").write_text(BOMB)
    outcome = convoy("train", *QUICK, "--run_dir=run", "--model=mine:model", "--restarts=2")
    assert outcome.code == 70, outcome
    sentence, _, command = outcome.err.strip().splitlines()
    assert command.strip().startswith("convoy train ")
    assert "--on_nan=rollback" in command
    assert "the loss of step 30 is nan" in outcome.err
    assert "the last good checkpoint is checkpoints/00000020.1" in sentence
    assert "--learning_rate" in sentence
    assert [event["event"] for event in events_of(tmp_path / "run")][-1] == "diverged"
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["00000020.1"]


@pytest.mark.thorough
def test_weights_that_are_not_finite_are_never_saved(convoy, tmp_path):
    outcome = convoy("train", *QUICK, "--run_dir=run", "--optimizer=sgd", "--learning_rate=1e30", "--duration=1st")
    assert outcome.code == 70, outcome
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "result.json").exists()


def test_the_python_interface(tmp_path):
    program = (
        "from convoy.data.config import DataConfig\nfrom convoy.trainer.config import RunConfig\n"
        "from convoy.trainer.run import run\n"
        f"result = run(RunConfig(run_dir={str(tmp_path / 'run')!r}, duration='30st', data=DataConfig(augment='crop')))\n"
        "import sys; print(sorted({'jax', 'sklearn', 'torch', 'tensorflow_datasets'} & sys.modules.keys()))\n"
        "print(result['step'], result['eval']['split'], 0 <= result['train']['input_wait_fraction'] < 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=True)
    # Only what a run uses is imported; each of these takes up to a second.
    assert done.stdout.splitlines()[-2:] == ["[]", "30 test True"]
    assert np.isfinite(final_tensors(tmp_path / "run")["model/article_cnn/conv/kernel"]).all()


def test_a_finished_run_has_a_page(convoy, finished, tmp_path):
    run_dir, outcome = finished
    assert f"page {run_dir}/report.html" in outcome.out
    written, result = (run_dir / "report.html").read_text(), result_of(run_dir)
    assert f"<strong>{100 * result['eval']['accuracy']:.2f}%</strong> of {result['eval']['examples']}" in written
    assert written.count("data:image/png") > 30, "mistakes, unsure examples, augmentation"
    with np.load(run_dir / "predictions.npz") as found:
        right = found["logits"].argmax(1) == found["label"]
    assert right.mean() == pytest.approx(result["eval"]["accuracy"], rel=1e-12)
    shutil.copytree(run_dir, tmp_path / "run")
    done = convoy("report", f"--run_dir={tmp_path / 'run'}")
    assert done.code == 0, done
    assert done.out == f"Wrote {tmp_path}/run/report.html\n"
    again = (tmp_path / "run" / "report.html").read_text()
    assert again.replace(str(tmp_path / "run"), "DIR") == written.replace(str(run_dir), "DIR")


@pytest.mark.thorough  # tests/trainer/test_own_page.py shows it without processes
def test_a_page_is_in_nobodys_way(convoy, undisturbed, tmp_path):
    """A run that is cut short has one too; one that cannot be written changes neither code nor bits."""
    flags = [*QUICK, "--report", "--run_dir=run"]
    cut_short = convoy("train", *flags, chaos="term:snapshot@20")
    assert cut_short.code == 42, cut_short
    page = tmp_path / "run" / "report.html"
    assert "This run is not finished." in page.read_text()
    page.unlink()
    (page / "occupied").mkdir(parents=True)
    done = convoy("train", *flags)
    assert done.code == 0, done
    assert "Note: report.html is not written: " in done.out
    assert_same_bits(tmp_path / "run", undisturbed)


@pytest.mark.thorough
def test_a_run_that_diverged_has_a_page(convoy, tmp_path):
    done = convoy("train", *QUICK, "--report", "--run_dir=run", "--optimizer=sgd", "--learning_rate=1e30")
    assert done.code == 70, done
    assert "This run is not finished." in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_a_profile_stands_where_tensorboard_looks(convoy, tmp_path, backend):
    flags = [*QUICK, f"--backend={backend}", "--profile=30:32", "--run_dir=run"]
    done = convoy("train", *flags)
    assert done.code == 0, done
    assert "the profile of steps 30 to 32 is in" in done.out
    (trace,) = tmp_path.glob("run/tensorboard/plugins/profile/*/*.xplane.pb")
    assert b"convoy.optimizer" in trace.read_bytes()


@pytest.mark.thorough
def test_a_profile_of_steps_that_a_run_has_not_is_refused_before_anything_is_written(convoy, tmp_path):
    done = convoy("train", "--dataset=digits", "--duration=1ep", "--batch_size=64", "--profile=30:32", "--run_dir=run")
    assert done.code == 78
    assert "--profile=30:32 is not possible: the run has 21 steps; give FIRST:END with an END up to that." in done.err
    assert not (tmp_path / "run" / "config.json").exists()
