"""N devices == 1 device, several processes == 1, JAX == TensorFlow: the same seed ends in the same weights.

In float64, each case in a process of its own. Equal means max|a - b| <= 1e-9 * max(max|a|, 1e-3) per tensor and losses within
1e-10 (docs/architecture.md); between the engines, whose kernels add up in other orders, 1e-7 and 1e-8.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import command, environment, events_of, final_tensors, once, records_of, result_of, run_workers

THOROUGH = pytest.mark.thorough  # what test_engines.py shows of the engines alone
MODEL = """
import keras
from keras import layers
from convoy.trainer.layers import Dropout, StochasticDepth

def everything(input_shape, num_classes):
    image = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, use_bias=False, padding="same")(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    y = layers.Conv2D(8, 3, strides=2, use_bias=False)(layers.ZeroPadding2D(1)(x))
    y = StochasticDepth(0.3, name="drop")(layers.BatchNormalization()(y))
    x = layers.MaxPooling2D(2)(layers.Add()([y, layers.MaxPooling2D(2)(x)]))
    x = Dropout(0.4, name="dropout")(layers.Dense(32, activation="relu")(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(num_classes, kernel_regularizer=keras.regularizers.L2(2**-10))(x), name="mine")
"""
FLAGS = ["--dataset=digits", "--model=mine:everything", "--augment=article", "--batch_size=64", "--precision=float64",
         "--deterministic", "--seed=1", "--clip_norm=1", "--ema=0.9", "--label_smoothing=0.1", "--accumulate=2",
         "--optimizer=adamw", "--weight_decay=0.01", "--eval_every=25st", "--checkpoint_every=25st", "--noreport"]  # fmt: skip


def flags(*more: object) -> list[object]:
    """Of the run in the directory `run`, to its end."""
    return [*FLAGS, "--duration=50st", "--run_dir=run", *more]


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[..., Path]:
    """shared(name, flags, ...) -> a directory with the model and a run of these flags, made once for all tests."""

    def get(name: str, *argv: object, code: int = 0, **variables: str) -> Path:
        def make(place: Path) -> None:
            (place / "mine.py").write_text(MODEL)
            env = environment(**variables)
            done = subprocess.run(
                command("train", *argv), cwd=place, env=env, timeout=150, capture_output=True, text=True, check=False
            )
            assert done.returncode == code, done.stderr

        return once(tmp_path_factory, name, make)

    return get


@pytest.fixture
def mine(tmp_path) -> Path:
    """A directory with the model in it."""
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


@pytest.fixture(scope="session")
def one_device(shared) -> Callable[[str], Path]:
    """backend -> the run of 50 steps on one device."""
    return lambda backend: shared(f"one-{backend}", *flags(f"--backend={backend}", "--devices=cpu:1"))


@pytest.fixture(scope="session")
def killed(shared) -> Callable[[str], Path]:
    """backend -> a run on two devices that was killed while it saved step 50; by then the checkpoint of 25 is whole."""

    def get(backend: str) -> Path:
        argv = flags(f"--backend={backend}", "--devices=cpu:2", "--steps_per_loop=5")
        return shared(f"killed-{backend}", *argv, code=42, CONVOY_CHAOS="kill:upload@26")

    return get


def assert_equal(place: Path, expected: Path, tensors: float = 1e-9, losses: float = 1e-10) -> None:
    run_dir, other = place / "run", expected / "run"
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    assert {name.split("/")[0] for name in ours} == {"model", "optimizer", "ema"}
    for name, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(value - theirs[name]).max() <= tensors * scale, name
    with np.load(run_dir / "predictions.npz") as ours, np.load(other / "predictions.npz") as theirs:
        assert ours["index"].tolist() == theirs["index"].tolist() == list(range(len(theirs["label"])))
        assert (ours["label"] == theirs["label"]).all()
        scale = np.abs(theirs["logits"]).max()
        assert np.abs(ours["logits"] - theirs["logits"]).max() <= tensors * scale
    for ours, theirs in zip(records_of(run_dir), records_of(other), strict=True):
        assert (ours["split"], ours["step"], ours["accuracy"]) == (theirs["split"], theirs["step"], theirs["accuracy"])
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=losses)


@pytest.mark.parametrize(
    ("backend", "devices"),
    [
        ("tensorflow", 2),
        pytest.param("tensorflow", 4, marks=THOROUGH),
        pytest.param("jax", 2, marks=THOROUGH),
        pytest.param("jax", 4, marks=THOROUGH),
    ],
)
def test_several_devices_end_as_one(convoy, mine, one_device, backend, devices):
    outcome = convoy("train", *flags(f"--backend={backend}", f"--devices=cpu:{devices}"))
    assert outcome.code == 0, outcome
    assert_equal(mine, one_device(backend))


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_end_as_one(mine, one_device, backend):
    leader, follower = run_workers(mine, backend, 2, *flags("--devices=cpu:1"))
    assert "2 processes" in leader.out
    assert "Convoy" not in follower.out, "only the leading process speaks"
    assert_equal(mine, one_device(backend))


@THOROUGH
def test_two_processes_of_two_devices(mine, one_device):
    run_workers(mine, "jax", 2, *flags("--devices=cpu:2"))
    assert_equal(mine, one_device("jax"))


def test_tensorflow_and_jax_end_alike(one_device):
    assert_equal(one_device("jax"), one_device("tensorflow"), tensors=1e-7, losses=1e-8)


@pytest.mark.parametrize(
    ("first", "then", "tensors", "losses"),
    [
        pytest.param("tensorflow", "tensorflow", 1e-9, 1e-10, marks=THOROUGH),
        ("tensorflow", "jax", 1e-7, 1e-8),
        pytest.param("jax", "tensorflow", 1e-7, 1e-8, marks=THOROUGH),
    ],
)
def test_killed_on_two_devices_and_continued_on_one(convoy, tmp_path, killed, one_device, first, then, tensors, losses):
    shutil.copytree(killed(first), tmp_path, dirs_exist_ok=True)
    outcome = convoy("train", *flags(f"--backend={then}", "--devices=cpu:1"))
    assert outcome.code == 0, outcome
    assert [event["step"] for event in events_of(tmp_path / "run") if event["event"] == "restored"][-1] == 25
    assert result_of(tmp_path / "run")["examples"] == 50 * 64
    assert_equal(tmp_path, one_device(first), tensors, losses)
