"""N devices == 1 device: the same positions end in the same weights, in float64, each case in a process of its own.

Equal means max|a - b| <= 1e-9 * max(max|a|, 1e-3) per tensor and losses within 1e-10 (docs/architecture.md).
"""

from __future__ import annotations

import numpy as np
import pytest

from support import events_of, final_tensors, records_of

MODEL = """
import keras
from keras import layers

def normalized(input_shape, num_classes):
    return keras.Sequential([
        keras.Input(input_shape), layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(momentum=0.9), layers.ReLU(),
        layers.Flatten(), layers.Dense(num_classes, kernel_regularizer=keras.regularizers.L2(1e-3)),
    ])
"""
COMMON = ["--dataset=digits", "--augment=article", "--batch_size=64", "--precision=float64", "--deterministic", "--seed=1",
          "--clip_norm=1", "--ema=0.9", "--label_smoothing=0.1", "--eval_every=25st", "--checkpoint_every=25st"]  # fmt: skip
CASES = {
    "BatchNormalization, AdamW": ["--model=mine:normalized", "--optimizer=adamw", "--weight_decay=0.01"],
    "accumulation, SGD": ["--accumulate=3", "--optimizer=sgd", "--schedule=cosine", "--warmup=5st"],
}


def run(convoy, tmp_path, devices: int, case: str, *more: str, name: str = "", chaos: str = "", code: int = 0):
    (tmp_path / "mine.py").write_text(MODEL)
    run_dir = tmp_path / (name or f"{devices}")
    argv = [
        "train",
        *COMMON,
        *CASES[case],
        "--duration=50st",
        f"--devices=cpu:{devices}",
        f"--run_dir={run_dir}",
        *more,
    ]
    outcome = convoy(*argv, chaos=chaos)
    assert outcome.code == code, outcome
    return run_dir


def assert_equal(run_dir, other):
    ours, theirs = final_tensors(run_dir), final_tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(value - theirs[name]).max() <= 1e-9 * scale, name
    for ours, theirs in zip(records_of(run_dir), records_of(other), strict=True):
        assert (ours["split"], ours["step"], ours["accuracy"]) == (theirs["split"], theirs["step"], theirs["accuracy"])
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_two_and_four_devices_end_as_one(convoy, tmp_path, case):
    one = run(convoy, tmp_path, 1, case)
    for devices in (2, 4):
        assert_equal(one, run(convoy, tmp_path, devices, case))


def test_killed_on_two_devices_and_continued_on_one(convoy, tmp_path):
    case = "BatchNormalization, AdamW"
    moved = run(convoy, tmp_path, 2, case, "--steps_per_loop=5", name="moved", chaos="kill:between@30", code=42)
    run(convoy, tmp_path, 1, case, name="moved")
    assert [event["step"] for event in events_of(moved) if event["event"] == "restored"] == [25]
    assert_equal(moved, run(convoy, tmp_path, 1, case, name="stayed"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--devices=cpu:3"], ["--batch_size=64", "a multiple of 3"]),
        (["--devices=cpu:2", "--strategy=one"], ["--strategy=one", "--devices=cpu:2"]),
        (["--devices=cpu:2", "--model=mine:random"], ["mine:random", "draws random numbers"]),
    ],
)
def test_what_cannot_be_right_is_refused(convoy, tmp_path, flags, words):
    (tmp_path / "mine.py").write_text(
        "import keras\n\n\n"
        "def random(input_shape, num_classes):\n"
        "    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dropout(0.5),\n"
        "                             keras.layers.Dense(num_classes)])\n"
    )
    outcome = convoy("train", "--batch_size=64", "--run_dir=run", *flags)
    assert outcome.code == 78, outcome
    assert all(word in outcome.err for word in words), outcome
