"""How good the rate of --find_lr is, beside a grid: `python benchmarks/find_lr.py`.

Digits, article_cnn, batch 128, 10 epochs, cosine to 0, three seeds: the accuracy of the held-out digits with the rate that the
search names for seed 0, and with every rate of a grid. Writes results/find_lr.csv.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import HERE, describe, write

RESULTS = HERE / "results" / "find_lr.csv"
GRIDS = {"adam": [0.0003, 0.001, 0.003, 0.01, 0.04], "sgd": [0.01, 0.03, 0.08, 0.3]}
SEEDS = 3
FLAGS = ["--dataset=digits", "--model=article_cnn", "--batch_size=128"]


def train(*flags: str) -> None:
    subprocess.run([sys.executable, "-m", "convoy", "train", *FLAGS, *flags], check=True, stdout=subprocess.DEVNULL)


def named(optimizer: str, folder: Path) -> float:
    train(f"--optimizer={optimizer}", "--find_lr", f"--run_dir={folder / 'search'}")
    return json.loads((folder / "search-find_lr" / "find_lr.json").read_text())["learning_rate"]


def accuracies(optimizer: str, rate: float, folder: Path) -> list[float]:
    measured = []
    for seed in range(SEEDS):
        run_dir = folder / f"{rate}-{seed}"
        train(
            f"--optimizer={optimizer}",
            f"--learning_rate={rate}",
            "--schedule=cosine",
            "--duration=10ep",
            f"--seed={seed}",
            f"--run_dir={run_dir}",
        )
        measured.append(json.loads((run_dir / "result.json").read_text())["eval"]["accuracy"])
    return measured


def main() -> None:
    rows = []
    for optimizer, grid in GRIDS.items():
        with tempfile.TemporaryDirectory() as folder:
            rate = named(optimizer, Path(folder))
            for each, by in [(rate, "find_lr"), *((rate, "grid") for rate in grid)]:
                measured = accuracies(optimizer, each, Path(folder) / by)
                row = {
                    "optimizer": optimizer,
                    "by": by,
                    "learning_rate": each,
                    "seeds": SEEDS,
                    "accuracy": round(statistics.median(measured), 4),
                    "low": round(min(measured), 4),
                    "high": round(max(measured), 4),
                }
                rows.append({**describe(), **row})
                print(row, flush=True)
    write(RESULTS, rows)


if __name__ == "__main__":
    main()
