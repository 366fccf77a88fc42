"""From the command to the end of the first step, beside an older commit: `python benchmarks/start.py --before=COMMIT`. Minutes.

Digits, one CPU device, on either engine: a new run of article_cnn, and one of resnet18 that goes on after a kill, from its
first checkpoint. Each turn is a process of its own, the sides in turn, and each side has a cache folder of its own. The first
round does not count: it brings files into memory and compiles bytecode. Seconds are of the clock, from the start of `convoy
train` to the first record of metrics.jsonl. CPU seconds are of the whole command, parent and child: of a new run with its save
and its test; a run that goes on is killed once its first step is recorded. Writes rows of results/start.csv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import HERE, checkout, describe, replace

DIGITS = ["--dataset=digits", "--batch_size=64", "--devices=cpu:1"]
NEW = [*DIGITS, "--duration=1st", "--augment=article"]
GOES_ON = [*DIGITS, "--duration=9st", "--model=resnet18", "--augment=standard", "--eval_split=none"]
GOES_ON += ["--eval_every=1st", "--checkpoint_every=1st"]
RUNS = ("new, article_cnn", "after a kill, resnet18")


def train(code: Path, folder: Path, *flags: str, chaos: str = "") -> float:
    """Runs the command; returns when it was started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"PYTHONPATH": f"{code}", "XDG_CACHE_HOME": f"{folder}/cache", "CONVOY_CHAOS": chaos}
    command = [sys.executable, "-P", "-m", "convoy", "train", *flags, f"--run_dir={folder}/run"]
    began = time.time()
    done = subprocess.run(command, cwd=folder, env=environment, check=not chaos, capture_output=True, text=True)
    if chaos and "SIGKILL" not in done.stderr:
        raise RuntimeError(done.stderr)
    return began


def turn(run: str, code: Path, backend: str, folder: Path) -> tuple[float, float]:
    """(seconds to the first step, CPU seconds of the command). `folder` is the side's, and is kept from turn to turn."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "cache").symlink_to(folder / "cache")
        if run == RUNS[0]:
            spent, began = _cpu_of_children(), train(code, Path(place), *NEW, f"--backend={backend}")
        else:
            shutil.copytree(folder / "run", Path(place) / "run")
            spent, flags = _cpu_of_children(), [*GOES_ON, f"--backend={backend}"]
            began = train(code, Path(place), *flags, chaos="kill:snapshot@2")
        records = [json.loads(line) for line in Path(place, "run", "metrics.jsonl").read_text().splitlines()]
        first = next(record["time"] for record in records if record["time"] > began)
        return first - began, _cpu_of_children() - spent


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the commit of the other side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--notes", default="", help="what else ran meanwhile, for the rows")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkout(flags.before, Path(folder))
        sides = {flags.before: Path(folder), "now": HERE.parent}
        for run, backend in itertools.product(flags.runs, flags.backends):
            measure(run, backend, sides, flags.rounds, flags.notes)


def measure(run: str, backend: str, sides: dict[str, Path], rounds: int, notes: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        turns: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for side, code in sides.items():
            (Path(folder, side) / "cache").mkdir(parents=True)
            if run != RUNS[0]:
                train(code, Path(folder, side), *GOES_ON, f"--backend={backend}", chaos="kill:manifest@2")
        for number in range(1 + rounds):
            for side, code in sides.items():
                turns[side].append(turn(run, code, backend, Path(folder, side)))
                print(f"{run}, {backend}, round {number}, {side}: {turns[side][-1][0]:.2f} s", flush=True)
    for side, measured in turns.items():
        seconds, cpu = zip(*measured[1:], strict=True)
        row = {
            **describe(),
            "run": run,
            "backend": backend,
            "side": side,
            "rounds": rounds,
            "seconds": round(statistics.median(seconds), 2),
            "least": round(min(seconds), 2),
            "most": round(max(seconds), 2),
            "cpu_seconds": round(statistics.median(cpu), 2),
            "notes": notes,
        }
        replace(HERE / "results" / "start.csv", row, "run", "backend", "side")


if __name__ == "__main__":
    main()
