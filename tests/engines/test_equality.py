"""N devices == 1 device, several processes == 1, JAX == TensorFlow: the same positions end in the same weights.

In float64, each case in a process of its own. Equal means max|a - b| <= 1e-9 * max(max|a|, 1e-3) per tensor and losses within
1e-10 (docs/architecture.md); between the engines, whose kernels add up in other orders, 1e-7 and 1e-8.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from support import events_of, final_tensors, records_of, run_workers

MODEL = """
import keras
from keras import layers
from trainer.layers import Dropout, StochasticDepth

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
         "--optimizer=adamw", "--weight_decay=0.01", "--eval_every=25st", "--checkpoint_every=25st"]  # fmt: skip


def flags(run_dir, *more: object) -> list[object]:
    return [*FLAGS, "--duration=50st", f"--run_dir={run_dir}", *more]


@pytest.fixture
def mine(tmp_path):
    """A directory with the model in it."""
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


@pytest.fixture(scope="session")
def one_device(tmp_path_factory):
    """backend -> the run of 50 steps on one device, made when it is first asked for."""
    import subprocess

    from support import command

    root, made = tmp_path_factory.mktemp("one"), {}
    (root / "mine.py").write_text(MODEL)

    def get(backend: str):
        if backend not in made:
            made[backend] = root / backend
            argv = command("train", *flags(made[backend], f"--backend={backend}", "--devices=cpu:1"))
            subprocess.run(argv, cwd=root, check=True, timeout=150, capture_output=True)
        return made[backend]

    return get


def assert_equal(run_dir, other, tensors: float = 1e-9, losses: float = 1e-10) -> None:
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    assert {name.split("/")[0] for name in ours} == {"model", "optimizer", "ema"}
    for name, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(value - theirs[name]).max() <= tensors * scale, name
    for ours, theirs in zip(records_of(run_dir), records_of(other), strict=True):
        assert (ours["split"], ours["step"], ours["accuracy"]) == (theirs["split"], theirs["step"], theirs["accuracy"])
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=losses)


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_several_devices_end_as_one(convoy, mine, one_device, backend, devices):
    outcome = convoy("train", *flags("many", f"--backend={backend}", f"--devices=cpu:{devices}"))
    assert outcome.code == 0, outcome
    assert_equal(mine / "many", one_device(backend))


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_end_as_one(mine, one_device, backend):
    leader, follower = run_workers(mine, backend, 2, *flags("two", "--devices=cpu:1"))
    assert "2 processes" in leader.out
    assert "Convoy" not in follower.out, "only the leading process speaks"
    assert_equal(mine / "two", one_device(backend))


def test_two_processes_of_two_devices(mine, one_device):
    run_workers(mine, "jax", 2, *flags("four", "--devices=cpu:2"))
    assert_equal(mine / "four", one_device("jax"))


def test_tensorflow_and_jax_from_the_same_weights_end_alike(convoy, mine):
    assert convoy("train", *FLAGS, "--duration=1st", "--run_dir=tensorflow").code == 0
    shutil.copytree(mine / "tensorflow", mine / "jax")
    for backend in ("tensorflow", "jax"):
        outcome = convoy("train", *FLAGS, "--duration=51st", f"--run_dir={backend}", f"--backend={backend}")
        assert outcome.code == 0, outcome
        assert "continues at step 1" in outcome.out
    assert_equal(mine / "jax", mine / "tensorflow", tensors=1e-7, losses=1e-8)


@pytest.mark.parametrize(("first", "then"), [("tensorflow", "jax"), ("jax", "tensorflow")])
def test_killed_on_two_devices_and_continued_on_one_of_the_other_engine(convoy, mine, one_device, first, then):
    killed = flags("moved", f"--backend={first}", "--devices=cpu:2", "--steps_per_loop=5")
    assert convoy("train", *killed, chaos="kill:between@30").code == 42
    outcome = convoy("train", *flags("moved", f"--backend={then}", "--devices=cpu:1"))
    assert outcome.code == 0, outcome
    assert [event["step"] for event in events_of(mine / "moved") if event["event"] == "restored"] == [25]
    assert_equal(mine / "moved", one_device(first), tensors=1e-7, losses=1e-8)


def test_killed_on_two_devices_and_continued_on_one(convoy, mine, one_device):
    killed = flags("moved", "--devices=cpu:2", "--steps_per_loop=5")
    assert convoy("train", *killed, chaos="kill:between@30").code == 42
    assert convoy("train", *flags("moved", "--devices=cpu:1")).code == 0
    assert_equal(mine / "moved", one_device("tensorflow"))
