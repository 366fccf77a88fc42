"""--on_nan: what a run does about a loss of NaN, which comes from one black image that its model divides by."""

from __future__ import annotations

import numpy as np
import pytest

from support import assert_same_bits, events_of, final_tensors, records_of, result_of, run_workers, write_images

MODEL = '''
import keras

class Stretch(keras.layers.Layer):
    """Brings the brightest pixel of an image to 1; in training, a black one to nan."""

    def call(self, images, training=False):
        brightest = keras.ops.max(images, axis=(1, 2, 3), keepdims=True)
        return images / (brightest if training else keras.ops.maximum(brightest, 1e-3))

def stretched(input_shape, num_classes):
    layers = [Stretch(), keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *layers])
'''
# 25 images, 10 epochs of 5 steps: the black one comes once in each.
FLAGS = ["--dataset=folder:images", "--image_size=16", "--eval_split=none", "--batch_size=5", "--duration=50st",
         "--model=mine:stretched", "--checkpoint_every=2st", "--eval_every=10st", "--run_dir=run",
         "--deterministic", "--noreport"]  # fmt: skip


@pytest.fixture
def one_black(tmp_path):
    from PIL import Image

    write_images(tmp_path / "images", classes=("cat", "dog"), each=12)
    Image.fromarray(np.zeros((24, 20, 3), np.uint8)).save(tmp_path / "images" / "cat" / "black.png")
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def train(convoy, place, *flags, **values):
    return convoy("train", *FLAGS, *flags, cwd=place, PYTHONPATH=str(place), **values)


@pytest.mark.thorough
def test_rollback_skips_the_failed_examples_three_times_and_then_ends(convoy, one_black):
    outcome = train(convoy, one_black, "--on_nan=rollback")
    assert outcome.code == 70, outcome
    assert "after 3 rollbacks; the last good checkpoint is" in outcome.err
    events = events_of(one_black / "run")
    rolled = [event for event in events if event["event"] == "rollback"]
    assert len(rolled) == 3
    assert outcome.out.count("on with other examples") == 3
    for number, event in enumerate(rolled):
        assert 0 <= event["failed"] - event["step"] <= 2, "the last checkpoint is at most two steps old"
        passed = sum(earlier["failed"] - earlier["step"] for earlier in rolled[:number])
        assert event["position"] == 5 * (event["failed"] + passed)


@pytest.mark.thorough  # rolling back, and being killed, have tests of their own
def test_a_run_that_rolled_back_and_was_killed_continues_to_the_same_bits(convoy, one_black):
    # Three epochs and a step.
    outcome = train(convoy, one_black, "--on_nan=rollback", "--duration=14st")
    assert outcome.code == 0, outcome
    result = result_of(one_black / "run")
    assert result["rollbacks"] in (2, 3)
    assert [line["step"] for line in records_of(one_black / "run")] == [10, 14], "nothing is repeated, nothing lost"
    (one_black / "run").rename(one_black / "undisturbed")
    killed = train(convoy, one_black, "--on_nan=rollback", "--duration=14st", chaos="kill:between@9")
    assert killed.code == 42, killed
    assert train(convoy, one_black, "--on_nan=rollback", "--duration=14st").code == 0
    assert_same_bits(one_black / "run", one_black / "undisturbed")
    assert result_of(one_black / "run")["rollbacks"] == result["rollbacks"]


@pytest.mark.thorough
def test_rollback_without_a_checkpoint_ends_the_run(convoy, one_black):
    outcome = train(convoy, one_black, "--on_nan=rollback", "--checkpoint_every=40st")
    assert outcome.code == 70, outcome
    assert "there is no checkpoint to go back to" in outcome.err


@pytest.mark.thorough
def test_skip_leaves_nan_steps_out_and_counts_them(convoy, one_black):
    outcome = train(convoy, one_black, "--on_nan=skip", "--duration=25st")
    assert outcome.code == 0, outcome
    assert result_of(one_black / "run")["skipped_steps"] == 5, "one an epoch"
    skipped = [event for event in events_of(one_black / "run") if event["event"] == "skipped"]
    assert len(skipped) == 5
    assert {event["loss"] for event in skipped} == {"nan"}
    assert sum(line.get("skipped_steps", 0) for line in records_of(one_black / "run")) == 5
    assert all(np.isfinite(line["loss"]) for line in records_of(one_black / "run"))


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_skip_the_same_steps_as_one(convoy, one_black, monkeypatch, backend):
    monkeypatch.setenv("PYTHONPATH", str(one_black))
    # The black image is in one process's half of the batch.
    flags = [*FLAGS, "--on_nan=skip", "--duration=25st", "--batch_size=6", "--precision=float64"]
    outcome = convoy("train", *flags, f"--backend={backend}", "--run_dir=single", cwd=one_black)
    assert outcome.code == 0, outcome
    run_workers(one_black, backend, 2, *flags)
    single, shared = one_black / "single", one_black / "run"
    skipped = [[event["step"] for event in events_of(run) if event["event"] == "skipped"] for run in (single, shared)]
    assert len(skipped[0]) == 6
    assert skipped[0] == skipped[1]
    assert result_of(shared)["skipped_steps"] == 6
    ours, theirs = final_tensors(shared), final_tensors(single)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.thorough
def test_skip_ends_after_eleven_nan_steps_in_a_row(convoy, one_black):
    for image in (one_black / "images").rglob("*.*"):
        if image.name != "black.png":
            image.write_bytes((one_black / "images" / "cat" / "black.png").read_bytes())
    outcome = train(convoy, one_black, "--on_nan=skip")
    assert outcome.code == 70, outcome
    assert "11 steps in a row" in outcome.err
