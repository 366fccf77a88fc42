"""A run that 3ff22d4 left half-way continues with today's code, and ends as it ended with 3ff22d4.

run_3ff22d4/run is the run directory, command.flags its command (with small.py in the current directory), then.npz and
then.json its end. Bits of floating-point numbers differ between kinds of machines. On another kind than the first the values
are compared, which are float64 for that purpose.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from support import final_tensors, records_of, result_of

THEN = Path(__file__).parent / "run_3ff22d4"
FLAGS = ("--flagfile=command.flags", "--run_dir=run")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def machine() -> dict[str, object]:
    """The facts that determine the bits of a sum: instructions, caches, cores and libraries."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    chosen = ("avx", "amx", "sse", "fma", "f16c", "bmi", "vaes")
    flags = facts.get("flags", "").split()
    return {
        "processor": [facts.get(name) for name in ("vendor_id", "cpu family", "model")],
        "instructions": sorted(flag for flag in flags if flag.startswith(chosen)),
        "caches": [
            size.read_text().strip() for size in sorted(_CACHES.glob("index*/size"))
        ],  # Eigen cuts loops by them
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }


EXPECTED = json.loads((THEN / "then.json").read_text())
SAME = machine() == EXPECTED["machine"]
WHAT = "bits" if SAME else f"1e-9, since this machine is {machine()}, and the first was {EXPECTED['machine']}"


@pytest.fixture
def place(tmp_path):
    """A current directory as the run had it."""
    for name in ("small.py", "command.flags"):
        shutil.copy(THEN / name, tmp_path)
    shutil.copytree(THEN / "run", tmp_path / "run")
    return tmp_path


def assert_ends_as_then(run_dir: Path, bits: bool, within: float = 1e-9) -> None:
    """Asserts that tensors and records are as with 3ff22d4: bit for bit, or relative to the tensor's largest value."""
    ours = final_tensors(run_dir)
    with np.load(THEN / "then.npz") as theirs:
        assert ours.keys() == set(theirs.files)
        for name, value in ours.items():
            was = theirs[name]
            if bits:
                assert (value.dtype, value.tobytes()) == (was.dtype, was.tobytes()), name
            else:  # JAX counts steps in 32 bits
                assert np.abs(value - was).max() <= within * max(np.abs(was).max(), 1e-3), name
    records = records_of(run_dir)
    assert [record.keys() for record in records] == [record.keys() for record in EXPECTED["metrics"]]
    for now, was in zip(records, EXPECTED["metrics"], strict=True):
        assert_measures_as_then(now, was, bits, within)
    assert_measures_as_then(result_of(run_dir)["eval"], EXPECTED["eval"], bits, within)


def assert_measures_as_then(now: dict, then: dict, bits: bool, within: float = 1e-9) -> None:
    for name, was in then.items():
        exact = bits or not isinstance(was, float)
        assert now[name] == (was if exact else pytest.approx(was, rel=within, abs=0)), name


def test_a_run_of_3ff22d4_ends_with_the_bits_that_it_had_then(place, convoy, capsys):
    before = (place / "run" / "metrics.jsonl").read_bytes()
    outcome = convoy("train", *FLAGS, cwd=place)
    assert outcome.code == 0, outcome
    assert "continues at step 27 of 60" in outcome.out
    assert (place / "run" / "metrics.jsonl").read_bytes().startswith(before)

    with capsys.disabled():
        print(f" {WHAT}", end="")
    assert_ends_as_then(place / "run", bits=SAME)


@pytest.mark.thorough
def test_a_run_of_3ff22d4_is_measured_as_it_was_then(place, convoy):
    outcome = convoy("evaluate", "--run_dir=run", "--model=small:build", "--output=half.json", cwd=place)
    assert outcome.code == 0, outcome
    assert_measures_as_then(json.loads((place / "half.json").read_text()), EXPECTED["half"], bits=SAME)


def test_the_checkpoints_of_a_run_of_3ff22d4_are_listed_and_whole(capsys):
    from convoy.trainer.verbs.checkpoints import CHECKPOINTS

    assert CHECKPOINTS(["list", f"--run_dir={THEN / 'run'}"]) == 0
    assert CHECKPOINTS(["verify", f"--run_dir={THEN / 'run'}"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in shown] == 2 * [["step", str(step), "attempt", "1"] for step in (10, 27)]
    assert "the best: 41.32%" in shown[0]
    assert all("whole" in line for line in shown[2:])


@pytest.mark.thorough
def test_a_run_of_3ff22d4_ends_with_the_same_values_on_jax(place, convoy):
    pytest.importorskip("jax")
    outcome = convoy("train", *FLAGS, "--backend=jax", cwd=place)
    assert outcome.code == 0, outcome
    assert_ends_as_then(place / "run", bits=False, within=1e-7)
