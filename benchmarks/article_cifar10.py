"""Convoy beside the article's mended Keras code on the real CIFAR-10, in turn: `python benchmarks/article_cifar10.py`.

Each side trains article_cnn for 10 epochs on all 50,000 images with the article's augmentation, then measures the 10,000
test images; that is timed, starting Python and reading the data are not. One seed after the other, the two sides
in turn, each in a process of its own, nothing else running. Writes results/article_cifar10.csv.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "article_cifar10.csv"
RECIPE = HERE.parent / "recipes" / "article_cifar10.flags"
DATA = Path(os.environ.get("CONVOY_TEST_DATA", HERE.parent.parent / "shared")) / "tfds"


def article(folder: Path, seed: int, epochs: int, data_dir: Path) -> tuple[float, float]:
    """(seconds, test accuracy) of the article's side."""
    output = folder / "article.json"
    flags = [f"--data_dir={data_dir}", f"--seed={seed}", f"--epochs={epochs}", f"--output={output}"]
    subprocess.run([sys.executable, HERE / "article_keras.py", *flags], check=True)
    measured = json.loads(output.read_text())
    return measured["seconds"], measured["accuracy"]


def convoy(folder: Path, seed: int, epochs: int, data_dir: Path) -> tuple[float, float]:
    """(seconds, test accuracy) of Convoy's side, from the begin of training to the end of the measurement."""
    run_dir = folder / "run"
    flags = [f"--data_dir={data_dir}", f"--seed={seed}", f"--duration={epochs}ep", f"--run_dir={run_dir}"]
    subprocess.run(["convoy", "train", f"--flagfile={RECIPE}", *flags], check=True)
    times = {}
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        times[event["event"]] = event["time"]
    return times["finished"] - times["training"], json.loads((run_dir / "result.json").read_text())["eval"]["accuracy"]


def machine() -> str:
    """The processor's name and the cores this process may use."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").open() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--data_dir", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=RESULTS)
    flags = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    rows = []
    for seed in range(flags.seeds):
        for side, batch_size, run in (("article", 32, article), ("convoy", 128, convoy)):
            with tempfile.TemporaryDirectory() as folder:
                seconds, accuracy = run(Path(folder), seed, flags.epochs, flags.data_dir.absolute())
            print(f"{side} seed {seed}: {seconds:.1f} s, accuracy {accuracy:.4f}", flush=True)
            rows.append(
                {
                    "date": datetime.date.today().isoformat(),
                    "machine": machine(),
                    "python": platform.python_version(),
                    "tensorflow": version("tensorflow"),
                    "keras": version("keras"),
                    "side": side,
                    "batch_size": batch_size,
                    "epochs": flags.epochs,
                    "seed": seed,
                    "seconds": round(seconds, 1),
                    "accuracy": round(accuracy, 4),
                }
            )
    flags.output.parent.mkdir(exist_ok=True)
    with flags.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
