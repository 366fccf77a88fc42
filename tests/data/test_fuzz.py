"""Damaged files: each is decoded, substituted or refused; nothing crashes, hangs or takes memory without bound."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support import REPOSITORY, environment

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Modules beside this one with a function `outcomes`: cases of every run, and of a thorough one.
HARNESSES = {"fuzz_images": (120, 4000), "fuzz_records": (30, 1000)}
SEED = 20261125
RESULTS = REPOSITORY / "benchmarks" / "results" / "fuzz.csv"
PEAK = 2 << 30


def fuzz(folder: Path, harness: str, first: int, count: int) -> Counter[tuple[str, str]]:
    """(format, outcome) of some cases, in a process of their own under a limit of memory and of time."""
    child = subprocess.run(
        [sys.executable, HERE / "fuzz_child.py", harness, folder, *map(str, (first, count, SEED))],
        env=environment(PYTHONPATH=f"{REPOSITORY}", TF_CPP_MIN_LOG_LEVEL="3"),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, f"seed {SEED}, cases {first} to {first + count - 1}: {child.stderr[-2000:]}"
    found = json.loads(child.stdout.splitlines()[-1])
    assert found["peak_bytes"] < PEAK, f"seed {SEED}, cases from {first}"
    counts = Counter({(format, outcome): number for format, outcome, number in found["counts"]})
    assert counts.total() == count
    return counts


def shares(counts: Counter[tuple[str, str]]) -> dict[str, float]:
    outcomes = Counter[str]()
    for (_, outcome), number in counts.items():
        outcomes[outcome] += number
    return {outcome: number / counts.total() for outcome, number in outcomes.items()}


def test_damaged_files_end_in_one_of_three_ways(tmp_path):
    counts = Counter[tuple[str, str]]()
    for harness, (cases, _) in HARNESSES.items():
        counts += fuzz(tmp_path, harness, 0, cases)
    found = shares(counts)
    assert found.keys() == {"decoded", "substituted", "refused"}
    assert min(found.values()) > 0.1, found


@pytest.mark.thorough
def test_thousands_of_damaged_files(tmp_path):
    total, rows = Counter[tuple[str, str]](), []
    for harness, (_, cases) in HARNESSES.items():
        counts = Counter[tuple[str, str]]()
        for first in range(0, cases, 500):
            counts += fuzz(tmp_path, harness, first, 500)
        rows += [(harness, SEED, *names, number) for names, number in sorted(counts.items())]
        total += counts
    assert min(shares(total).values()) > 0.1, total
    with RESULTS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("harness", "seed", "file", "outcome", "cases"), *rows])
