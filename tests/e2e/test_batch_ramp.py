"""Runs whose batches grow from 128 to 512: killed at random moments and at borders, and continued on other devices."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import assert_same_bits, command, environment, events_of, final_tensors, once, records_of, result_of

pytestmark = pytest.mark.thorough
BACKENDS = ["tensorflow", "jax"]
BORDERS, STEPS, EXAMPLES = (11, 21), 34, 11 * 128 + 10 * 256 + 13 * 512
FLAGS = ["--dataset=digits", "--augment=article", "--seed=1", "--deterministic", "--optimizer=adamw", "--weight_decay=0.01",
         "--ema=0.9", "--schedule=cosine", "--warmup=1ep", "--clip_norm=1", "--batch_size=512", "--accumulate=4",
         "--batch_ramp=128:1ep,256:2ep", "--duration=8ep", "--eval_every=2ep", "--checkpoint_every=5st",
         "--keep=9", "--noreport"]  # fmt: skip


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Callable[..., Path]:
    """whole(backend, flag, ...) -> the run of FLAGS and these, to its end."""

    def get(backend: str, *more: str) -> Path:
        def make(place: Path) -> None:
            argv = command("train", *FLAGS, *more, f"--backend={backend}", "--run_dir=run")
            subprocess.run(argv, cwd=place, env=environment(), check=True, timeout=300)

        return once(tmp_path_factory, "-".join(["ramp", backend, *more]).replace("/", ""), make) / "run"

    return get


@pytest.mark.parametrize("more", [(), ("--unfreeze=14st", "--noise_scale", "--accumulate=8")], ids=["", "with_stages"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_random_moments_and_at_its_borders(convoy, whole, tmp_path, backend, more):
    seed = int(os.environ.get("CONVOY_TEST_SEED") or random.randrange(10**6))
    print(f"CONVOY_TEST_SEED={seed}")
    draw = random.Random(seed)
    moments = sorted({*draw.sample(range(1, STEPS), 3), *BORDERS})
    argv = [*FLAGS, *more, f"--backend={backend}", "--run_dir=run", "--steps_per_loop=1"]
    for step in moments:
        kill = f"kill:{draw.choice(['step', 'between'])}@{step}"
        outcome = convoy("train", *argv, chaos=kill)
        assert outcome.code == 42, f"{seed} {kill}: {outcome}"
    outcome = convoy("train", *argv)
    assert outcome.code == 0, (seed, outcome)
    expected = whole(backend, *more)
    assert_same_bits(tmp_path / "run", expected)
    assert records_of(tmp_path / "run") == records_of(expected)
    result = result_of(tmp_path / "run")
    assert (result["attempts"], result["step"], result["examples"]) == (len(moments) + 1, STEPS, EXAMPLES)
    assert result["eval"] == result_of(expected)["eval"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_continued_on_another_number_of_devices(convoy, whole, tmp_path, backend):
    exact = ["--precision=float64", f"--backend={backend}", "--run_dir=run"]
    for kill, devices in (("kill:between@11", "cpu:2"), ("kill:step@17", "cpu:1"), ("", "cpu:2")):
        outcome = convoy("train", *FLAGS, *exact, f"--devices={devices}", chaos=kill)
        assert outcome.code == (42 if kill else 0), outcome
    expected = whole(backend, "--precision=float64", "--devices=cpu:1")
    ours, theirs = final_tensors(tmp_path / "run"), final_tensors(expected)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        scale = max(np.abs(value).max(), 1e-3)
        assert np.abs(1.0 * value - theirs[name]).max() <= 1e-9 * scale, name
    assert [record["examples"] for record in records_of(tmp_path / "run")] == [
        record["examples"] for record in records_of(expected)
    ]


def test_a_border_costs_no_compilation(whole):
    spent = [event["seconds"] for event in events_of(whole("jax")) if event["event"] == "spent"]
    assert spent[0]["compile"] > 0
    assert sum(seconds.get("compile", 0) for seconds in spent[1:]) < 0.5 * spent[0]["compile"]


def test_a_person_reads_what_grows_and_why_it_cannot(convoy, whole, tmp_path):
    train = ("train", *FLAGS, "--run_dir=run")
    assert json.loads((whole("tensorflow") / "config.json").read_text())["batch_ramp"] == "128:1ep,256:2ep"
    outcome = convoy(*train, "--batch_ramp=63:1ep", "--devices=cpu:2")
    assert outcome.code == 78
    assert (
        "a batch of 63 (--batch_ramp) cannot be shared evenly by --devices=cpu:2; give a multiple of 2." in outcome.err
    )
    outcome = convoy(*train, "--accumulate=2", "--noise_scale")
    assert outcome.code == 78
    assert "here that of 128 examples has one" in outcome.err
    outcome = convoy(*train, "--find_lr")
    assert outcome.code == 78
    assert "--find_lr tries one rate for one batch" in outcome.err
    outcome = convoy("train", *FLAGS, "--duration=9ep", "--batch_ramp=128:1ep", f"--run_dir={whole('tensorflow')}")
    assert outcome.code == 78
    assert "--batch_ramp=128:1ep, but the run was begun with --batch_ramp=128:1ep,256:2ep" in outcome.err
