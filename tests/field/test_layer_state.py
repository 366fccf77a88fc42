"""Runs of layers with state of their own resume to the same bits, or are refused; layer_state_cases.py draws cases."""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from convoy import exits
from support import REPOSITORY, assert_same_bits, final_tensors, run_workers, start_workers

PROGRAM = Path(__file__).with_name("layer_state_cases.py")
ROWS = REPOSITORY / "benchmarks" / "results" / "layer_state.csv"
MOVING = """
import keras
from keras import ops


class Moving(keras.layers.Layer):
    def build(self, shape):
        self.moving = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, aggregation="AGGREGATION", name="moving"
        )

    def call(self, x, training=False):
        if training:
            self.moving.assign(0.9 * self.moving + 0.1 * ops.mean(x, 0))
        return x - self.moving


def build(shape, classes):
    image = keras.Input(shape)
    return keras.Model(image, keras.layers.Dense(classes)(Moving()(keras.layers.Flatten()(image))))
"""
FLAGS = ["--dataset=digits", "--batch_size=64", "--duration=20st", "--checkpoint_every=5st", "--eval_every=20st",
         "--augment=none", "--seed=3", "--deterministic", "--model=my_model:build", "--noreport"]  # fmt: skip


QUICK = {
    "tensorflow": ["moving", "before/mean", "count of batch/sum", "counting in Python"],
    "jax": ["moving", "before/mean", "metric", "truth of batch/first"],
}


def run_cases(tmp_path: Path, backend: str, devices: int, seed: int, count: int, *kinds: str) -> list[dict]:
    print(f"{PROGRAM.name} {backend} {devices} {seed} {count}: the third is the seed")
    argv = [sys.executable, PROGRAM, backend, devices, seed, count, tmp_path / "outcomes.json", *kinds]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    assert outcomes["apart"] < 1e-5, "the mean over replicas is the value of one device"
    return outcomes["cases"]


def wrong(cases: list[dict]) -> list[dict]:
    return [case for case in cases if not case["found"].startswith(case["expected"])]


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.thorough)])
def test_an_interrupted_run_has_the_bits_of_an_uninterrupted_one_or_is_refused(tmp_path, backend):
    kinds = QUICK[backend]
    cases = run_cases(tmp_path, backend, 2, 4, len(kinds), *kinds)
    assert not wrong(cases)
    refusals = [case["found"] for case in cases if case["case"]["kind"] == "moving" and case["case"]["devices"] == 2]
    assert refusals
    for sentence in refusals:
        assert (
            "the layer moving (Moving) writes its variable sequential/moving/moving otherwise on each of 2 devices"
            in sentence
        )
        assert 'aggregation="mean"' in sentence


@pytest.mark.thorough
def test_200_drawn_cases_have_the_same_bits_or_are_refused(tmp_path):
    """Draws other cases each time, and appends a row of layer_state.csv for each engine and number of devices."""
    seed = int(os.environ.get("CONVOY_TEST_SEED", time.time_ns() % 10**6))
    rows = []
    for backend in ("tensorflow", "jax"):
        for devices in (2, 4):
            begun = time.perf_counter()
            cases = run_cases(tmp_path, backend, devices, seed, 50)
            assert not wrong(cases)
            same = sum(case["found"] == "same" for case in cases)
            day, seconds = datetime.datetime.now(datetime.UTC).date(), round(time.perf_counter() - begun)
            rows.append([day, seed, backend, devices, len(cases), same, len(cases) - same, len(wrong(cases)), seconds])
    with ROWS.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@pytest.mark.thorough
def test_a_refusal_says_what_to_write(tmp_path, convoy):
    (tmp_path / "my_model.py").write_text(MOVING.replace("AGGREGATION", "none"))
    done = convoy("train", *FLAGS, "--backend=jax", "--devices=cpu:2", "--run_dir=run")
    assert done.code == exits.CANNOT_RUN, done
    assert "the layer moving (Moving) writes its variable moving/moving otherwise on each of 2 devices" in done.err
    assert 'aggregation="mean"' in done.err
    assert not list((tmp_path / "run").glob("checkpoints/*")), "nothing was saved"


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_refused_run_continues_once_the_layer_names_its_aggregation(tmp_path, convoy, backend):
    model, argv = tmp_path / "my_model.py", ["train", *FLAGS, f"--backend={backend}", "--devices=cpu:2"]
    model.write_text(MOVING.replace("AGGREGATION", "none"))
    assert convoy(*argv, "--run_dir=cut").code == exits.CANNOT_RUN
    model.write_text(MOVING.replace("AGGREGATION", "mean"))
    assert convoy(*argv, "--run_dir=cut", "--steps_per_loop=3", chaos="term:between@7").code == exits.TRY_AGAIN
    assert convoy(*argv, "--run_dir=cut", "--steps_per_loop=3").code == 0
    assert convoy(*argv, "--run_dir=alone").code == 0
    assert_same_bits(tmp_path / "cut", tmp_path / "alone")
    assert np.abs(final_tensors(tmp_path / "alone")["model/moving/moving"]).max() > 0


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_processes_find_the_same_variable_and_end_together(tmp_path, backend):
    model = tmp_path / "my_model.py"
    model.write_text(MOVING.replace("AGGREGATION", "none"))
    for outcome in run_workers(tmp_path, backend, 2, *FLAGS, "--run_dir=cut", code=exits.CANNOT_RUN):
        assert (
            "the layer moving (Moving) writes its variable moving/moving otherwise on each of 2 devices" in outcome.err
        )
    model.write_text(MOVING.replace("AGGREGATION", "mean"))
    fault = {1: {"CONVOY_CHAOS": "term:between@7"}}
    workers = start_workers(tmp_path, backend, 2, *FLAGS, "--run_dir=cut", "--steps_per_loop=3", own=fault)
    assert [worker.wait(150) for worker in workers] == [exits.TRY_AGAIN] * 2
    run_workers(tmp_path, backend, 2, *FLAGS, "--run_dir=cut", "--steps_per_loop=3")
    run_workers(tmp_path, backend, 2, *FLAGS, "--run_dir=alone")
    assert_same_bits(tmp_path / "cut", tmp_path / "alone")
