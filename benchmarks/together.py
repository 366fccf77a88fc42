"""Input and step together beside each alone, by `convoy bench input`: `python benchmarks/together.py`.

Real CIFAR-10 with the article's augmentation, on a CPU, where both share the cores. Together they reach
1 / (1 / input + 1 / step) images a second, or more where one leaves cores idle. Writes results/together.csv.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rows import DATA, HERE, describe, write

# model, batch, rounds: a step of resnet18 takes many seconds
CASES = [("article_cnn", 128, 5), ("article_cnn", 1024, 5), ("resnet18", 128, 3), ("resnet18", 1024, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=DATA)
    flags = parser.parse_args()
    rows = []
    for model, batch_size, rounds in CASES:
        argv = [
            "--dataset=cifar10", f"--data_dir={flags.data_dir.absolute()}", "--augment=article", f"--model={model}",
            f"--batch_size={batch_size}", f"--rounds={rounds}", "--json",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "convoy", "bench", "input", *argv], check=True, stdout=subprocess.PIPE
        )
        measured = json.loads(done.stdout)
        row = {**describe(), "model": model, "batch_size": batch_size, "rounds": rounds}
        for part in ("loader", "step", "together"):
            row |= {part: round(measured[part]["images_per_second"], 1)}
            row |= {f"{part}_{end}": round(measured[part][end], 1) for end in ("least", "most")}
        row |= {
            "bound": round(measured["bound"]["images_per_second"], 1),
            "reached": round(measured["bound"]["reached"], 4),
            "input_wait_fraction": round(measured["input_wait_fraction"], 4),
            "peak_rss_mib": round(measured["peak_rss_bytes"] / 2**20),
        }
        print(row, flush=True)
        rows.append(row)
    write(HERE / "results" / "together.csv", rows)


if __name__ == "__main__":
    main()
