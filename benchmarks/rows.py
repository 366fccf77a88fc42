"""Helpers of the benchmarks: a run of Convoy with its figures, the machine, and the writing of rows."""

from __future__ import annotations

import csv
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
DATA = (
    Path(os.environ.get("CONVOY_TEST_DATA", HERE.parent.parent / "shared")).absolute() / "tfds"
)  # a prepared CIFAR-10


def convoy(folder: Path, recipe: str, flags: list[str]) -> dict[str, float]:
    """Trains recipes/RECIPE.flags in `folder`; seconds from the beginning of training to the end of the measurement."""
    run_dir = folder / "run"
    recipe_file = HERE.parent / "recipes" / f"{recipe}.flags"
    argv = ["train", f"--flagfile={recipe_file}", *flags, f"--run_dir={run_dir}"]
    subprocess.run([sys.executable, "-m", "convoy", *argv], check=True)
    times = {}
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        times[event["event"]] = event["time"]
    accuracy = json.loads((run_dir / "result.json").read_text())["eval"]["accuracy"]
    return {"seconds": round(times["finished"] - times["training"], 1), "accuracy": round(accuracy, 4)}


def describe() -> dict[str, str]:
    """Date, processor and cores, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "keras": version("keras"),
        "jax": version("jax") if importlib.util.find_spec("jax") else "",
    }


def checkout(commit: str, folder: Path) -> None:
    """Fills a folder with the files of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def replace(path: Path, row: dict[str, object], *keys: str) -> None:
    """Writes one row in place of that with the same values in the columns `keys`; the others stay."""
    others: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            others = [dict(other) for other in csv.DictReader(file)]
    write(path, [*(other for other in others if any(other[key] != str(row[key]) for key in keys)), row])
