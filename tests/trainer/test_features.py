"""--cache_features: the run that it is without, up to rounding, with the backbone called once an image."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convoy import exits
from convoy.data.config import DataConfig
from convoy.data.opening import open_splits
from convoy.trainer import features
from convoy.trainer.config import RunConfig
from support import assert_same_bits, environment, final_tensors, once, records_of, result_of, run_workers

pytestmark = pytest.mark.slow  # runs

BACKENDS = ["tensorflow", "jax"]
FROZEN = {"groups": "^logits/:lr=1;.:freeze"}
NETWORK = """
import keras
from convoy.trainer.layers import Dropout

def build(image_shape, num_classes):
    x = inputs = keras.Input((image_shape[0], image_shape[1], 1))
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = Dropout(0.3, name="drop")(keras.layers.ReLU()(x))
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="backbone")
    image = keras.Input(image_shape)
    x = backbone(keras.layers.Rescaling(2, -1, name="preprocess")(image))
    x = Dropout(0.2, name="head_dropout")(x)
    return keras.Model(image, keras.layers.Dense(num_classes, name="logits")(x))
"""
# What PROGRAM trains as staged-True.
FLAGS = ["--model=network:build", "--batch_size=64", "--duration=10st", "--eval_every=5st", "--checkpoint_every=3st",
         "--eval_split=hash:0.1", "--precision=float64", "--learning_rate=0.01", "--ema=0.9", "--label_smoothing=0.1",
         "--seed=3", "--devices=cpu:1", "--cache_features", "--unfreeze=5st", "--run_dir=run", "--noreport"]  # fmt: skip
PROGRAM = """
import sys
backend, devices, extent, place = sys.argv[1:]
from convoy.data.config import DataConfig
from convoy.trainer import run
from convoy.trainer.config import RunConfig
import convoy.trainer.outputs.curves as curves
curves.draw = lambda *values: None

def train(name, cached, duration="10st", data={}, **values):
    data = DataConfig("digits", **{"eval_split": "hash:0.1", **data})
    return run.run(RunConfig(
        f"{place}/{name}", data, model="network:build", batch_size=64, duration=duration, eval_every="5st",
        checkpoint_every="3st", precision="float64", learning_rate=0.01, ema=0.9, label_smoothing=0.1, seed=3,
        deterministic=True, devices=devices, backend=backend, cache_features=cached, **values))

FROZEN, STAGED = dict(groups="^logits/:lr=1;.:freeze"), dict(unfreeze="5st")
for cached in (False, True):
    if extent in ("quick", "thorough", f"cached {cached}"):
        train(f"staged-{cached}", cached, **STAGED)
if extent == "kept":
    for name, values in (("first", {}), ("second", {}), ("other", {"eval_split": "hash:0.2"})):
        train(name, True, data=dict(data_dir=place, **values), **FROZEN)
if extent == "thorough":
    train("frozen-False", False, **FROZEN)
    train("frozen-True", True, **FROZEN)
    for name, values, stops in (("frozen", FROZEN, ("4st", "5st")), ("staged", STAGED, ("6st", "8st"))):
        for stop in stops:
            train(f"{name}-{stop}", True, stop, **values)
            train(f"{name}-{stop}", True, **values)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Callable[[str, int, str], Path]:
    """runs(backend, devices, extent) -> the folder of its runs."""

    def made(backend: str, devices: int, extent: str) -> Path:
        def make(place: Path) -> None:
            (place / "network.py").write_text(NETWORK)
            (place / "program.py").write_text(PROGRAM)
            argv = [sys.executable, "program.py", backend, f"cpu:{devices}", extent, str(place)]
            done = subprocess.run(
                argv,
                cwd=place,
                env=environment(KERAS_BACKEND=backend),
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            (place / "out").write_text(done.stdout)
            assert done.returncode == 0, done.stdout + done.stderr

        return once(tmp_path_factory, f"features-{backend}-{devices}-{extent}", make)

    return made


def assert_equal_up_to_rounding(run_dir: Path, other: Path) -> None:
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        difference = np.abs(value - theirs[name]).max(initial=0)
        assert difference <= 1e-9 * max(np.abs(value).max(initial=0), 1e-3), name
    measured = [[*records_of(each), result_of(each)["eval"]] for each in (run_dir, other)]
    for now, then in zip(*measured, strict=True):
        assert now.keys() == then.keys()
        for name, value in now.items():
            assert value == (pytest.approx(then[name], rel=1e-9) if isinstance(value, float) else then[name]), name


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_a_cached_run_is_the_run_without(runs, backend):
    """Up to the border on features, and behind it on images; the test split is measured on images."""
    place = runs(backend, 1, "quick")
    assert_equal_up_to_rounding(place / "staged-True", place / "staged-False")
    said = [line for line in (place / "out").read_text().splitlines() if "features of" in line]
    assert len(said) == 1
    assert "features of 1,421 images: 0.1 MiB, computed in" in said[0]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["frozen", "staged"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_cached_runs_are_the_runs_without(runs, backend, name):
    place = runs(backend, 1, "thorough")
    assert_equal_up_to_rounding(place / f"{name}-True", place / f"{name}-False")


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cached_run_on_two_devices_is_the_run_without(runs, backend):
    """Each in a process of its own: TensorFlow keeps the collectives of a strategy that is over."""
    cached, plain = (runs(backend, 2, f"cached {value}") / f"staged-{value}" for value in (True, False))
    assert_equal_up_to_rounding(cached, plain)


@pytest.mark.thorough
@pytest.mark.parametrize("again", ["frozen-4st", "frozen-5st", "staged-6st", "staged-8st"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_goes_on_ends_with_the_same_bits(runs, backend, again):
    place = runs(backend, 1, "thorough")
    assert_same_bits(place / again, place / f"{again[:6]}-True")


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cached_run_in_two_processes_is_the_run_in_one(runs, backend, tmp_path):
    (tmp_path / "network.py").write_text(NETWORK)
    run_workers(tmp_path, backend, 2, *FLAGS)
    assert_equal_up_to_rounding(tmp_path / "run", runs(backend, 1, "quick") / "staged-True")


@pytest.mark.thorough
@pytest.mark.parametrize("chaos", ["term:evaluation@5", "kill:step@5", "kill:evaluation@10"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cached_run_that_is_killed_at_the_border_ends_with_the_same_bits(runs, backend, chaos, convoy, tmp_path):
    (tmp_path / "network.py").write_text(NETWORK)
    flags = ["train", *FLAGS, "--deterministic", f"--backend={backend}"]
    assert convoy(*flags, chaos=chaos).code == 42
    outcome = convoy(*flags)
    assert outcome.code == 0, outcome
    assert "continues at step" in outcome.out
    alone = runs(backend, 1, "quick") / "staged-True"
    assert_same_bits(tmp_path / "run", alone)
    assert records_of(tmp_path / "run") == records_of(alone)


@pytest.mark.thorough
def test_features_are_kept_below_data_dir_for_the_next_run(runs):
    place = runs("tensorflow", 1, "kept")
    assert_same_bits(place / "second", place / "first")
    how = [line.partition("MiB, ")[2] for line in (place / "out").read_text().splitlines() if "features of" in line]
    assert [line.partition(" in ")[0] for line in how] == ["computed", f"read from {place}/features", "computed"]
    assert len(list((place / "features").iterdir())) == 4


class FakeEngine:
    """Features of one number, the first pixel, that are computed as often as they are asked for."""

    features_until, feature_bytes, asked = None, 8, 0

    def backbone_digest(self) -> str:
        return "weights"

    def features(self, parts):
        self.asked += len(parts)
        return [np.full((len(examples), 1), 7.0) for examples in parts]


@pytest.mark.parametrize("damage", [b"", b"x" * 300, "cut", "other", "object", "link", "pipe"])
def test_a_damaged_file_of_features_is_computed_anew(tmp_path, damage):
    engine, said = FakeEngine(), []
    data = open_splits(DataConfig("digits", str(tmp_path), eval_split="none"))
    for _ in range(2):
        features.compute(engine, data, 0, said.append)
    assert engine.asked == 1
    assert f"read from {tmp_path}/features" in said[1]
    (kept,) = (tmp_path / "features").iterdir()
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-8])
    elif damage in ("link", "pipe"):
        kept.unlink()
        kept.symlink_to("/dev/zero") if damage == "link" else os.mkfifo(kept)
    elif isinstance(damage, bytes):
        kept.write_bytes(damage)
    else:
        np.save(kept, np.array([None]) if damage == "object" else np.zeros((3, 1)), allow_pickle=True)
    cache = features.compute(engine, data, 0, said.append)
    assert engine.asked == 2
    assert cache.train.images.shape == (1421, 1)
    features.compute(engine, data, 0, said.append)
    assert engine.asked == 2, "it is whole again"


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "features").write_text("")
    said = []
    data = open_splits(DataConfig("digits", str(tmp_path), eval_split="none"))
    assert len(features.compute(FakeEngine(), data, 0, said.append).train) == 1421
    assert "Note: the features cannot be kept" in said[0]


def test_features_that_do_not_fit_are_refused_with_their_size():
    data = open_splits(DataConfig("digits", eval_split="hash:0.1", cache_bytes=1000))
    with pytest.raises(exits.CannotRun, match="needs 11,368 bytes .* give --cache_bytes=11368"):
        features.check_bytes(FakeEngine(), data)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "the backbone trains; freeze it"),
        (
            {**FROZEN, "data": DataConfig(augment="article")},
            "--augment=article makes another image of each in every epoch",
        ),
    ],
)
def test_what_changes_the_features_is_refused_before_anything_starts(values, words):
    with pytest.raises(exits.CannotRun) as error:
        RunConfig(cache_features=True, **values)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--groups=bn:freeze", "--model=network:build"], 78, "a backbone that trains from the start, conv/kernel for one"),
        (["--groups=conv:freeze", "--model=article_cnn"], 78, "and --model=article_cnn has none"),
        (["--groups=^logits/:lr=1;.:freeze", "--model=network:build", "--cache_bytes=1000"], 78, "needs 34,104 bytes"),
    ],
)  # fmt: skip
@pytest.mark.thorough
def test_what_cannot_be_cached_is_refused(convoy, tmp_path, flags, code, words):
    (tmp_path / "network.py").write_text(NETWORK)
    outcome = convoy("train", "--run_dir=run", "--cache_features", "--duration=2st", *flags)
    assert outcome.code == code, outcome
    assert words in outcome.err
