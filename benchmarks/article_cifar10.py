"""Convoy beside the article's mended Keras code on the real CIFAR-10, in turn: `python benchmarks/article_cifar10.py`.

Each side trains the article's network for 10 epochs on all 50,000 images with the article's augmentation, then measures the
10,000 test images. The time excludes starting Python and reading the data. For one seed after the other the two sides take
turns, each in a process of its own, with nothing else running. Writes results/article_cifar10.csv.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import DATA, HERE, convoy, describe, write


def article(folder: Path, flags: list[str]) -> dict[str, float]:
    """Seconds and test accuracy of the article's side."""
    output = folder / "article.json"
    subprocess.run([sys.executable, HERE / "article_keras.py", *flags, f"--output={output}"], check=True)
    measured = json.loads(output.read_text())
    return {"seconds": round(measured["seconds"], 1), "accuracy": round(measured["accuracy"], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data_dir", type=Path, default=DATA)
    flags = parser.parse_args()

    rows = []
    for seed in range(flags.seeds):
        argv = [f"--data_dir={flags.data_dir.absolute()}", f"--seed={seed}"]
        for side, batch_size in (("article", 32), ("convoy", 128)):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                measured = article(place, argv) if side == "article" else convoy(place, "article_cifar10", argv)
            print(f"{side} seed {seed}: {measured}", flush=True)
            rows.append({**describe(), "side": side, "batch_size": batch_size, "epochs": 10, "seed": seed, **measured})
    write(HERE / "results" / "article_cifar10.csv", rows)


if __name__ == "__main__":
    main()
